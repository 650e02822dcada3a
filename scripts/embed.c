/* Write a C file with the contents of files, for src/api/embedded.h: embed OUTPUT PREFIX LUA... -- TEXT...
 * Lua files are compiled too, under the name PREFIX and that of the file. A tool of the build. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *output;
static int column;

/* Write bytes as numbers of an array. */
static int write_bytes(lua_State *L, const void *bytes, size_t size, void *arg) {
    (void)L;
    (void)arg;
    for (size_t i = 0; i < size; i++) {
        fprintf(output, "%u,%s", ((const unsigned char *)bytes)[i], ++column % 40 == 0 ? "\n" : "");
    }
    return 0;
}

/* Give up with a reason. */
static void give_up(const char *what, const char *why) {
    fprintf(stderr, "embed: %s: %s\n", what, why);
    exit(1);
}

/* Read a whole file; SIZE is set. The text is the caller's. */
static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        give_up(path, "cannot be read");
    }
    long length = ftell(file);
    char *text = length >= 0 ? malloc((size_t)length + 1) : NULL;
    rewind(file);
    if (text == NULL || fread(text, 1, (size_t)length, file) != (size_t)length) {
        give_up(path, "cannot be read");
    }
    fclose(file);
    *size = (size_t)length;
    return text;
}

/* The name of the file at a path. */
static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Write what a Lua file is when it is compiled. */
static void write_code(lua_State *L, const char *path, const char *prefix, const char *text,
                       size_t size) {
    lua_pushfstring(L, "=%s%s", prefix, name_of(path));
    if (luaL_loadbufferx(L, text, size, lua_tostring(L, -1), "t") != LUA_OK) {
        give_up(path, lua_tostring(L, -1));
    }
    lua_dump(L, write_bytes, NULL, 0);
    lua_settop(L, 0);
}

/* Write the arrays of a file, which has NUMBER; it is Lua unless PREFIX is NULL. */
static void write_file(lua_State *L, const char *path, const char *prefix, int number) {
    size_t size;
    char *text = read_file(path, &size);
    fprintf(output, "static const unsigned char text_%d[] = {\n", number);
    write_bytes(L, text, size, NULL);
    fprintf(output, "0};\nstatic const unsigned char code_%d[] = {\n", number);
    if (prefix != NULL) {
        write_code(L, path, prefix, text, size);
    }
    fputs("0};\n", output);
    free(text);
}

int main(int argc, char **argv) {
    lua_State *L = luaL_newstate();
    const char *prefix = argc > 2 ? argv[2] : NULL;
    output = argc > 2 ? fopen(argv[1], "w") : NULL;
    if (L == NULL || output == NULL) {
        give_up("usage", "embed OUTPUT PREFIX LUA... -- TEXT...");
    }
    fputs("/* Made by scripts/embed.c. */\n#include \"api/embedded.h\"\n\n", output);
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            prefix = NULL;
        } else {
            write_file(L, argv[i], prefix, i);
        }
    }
    fputs("\nconst struct ld_embedded ld_embedded[] = {\n", output);
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--") != 0) {
            fprintf(output,
                    "    {\"%s\", (const char *)text_%d, sizeof text_%d - 1,\n"
                    "     (const char *)code_%d, sizeof code_%d - 1},\n",
                    name_of(argv[i]), i, i, i, i);
        }
    }
    fputs("    {0},\n};\n", output);
    lua_close(L);
    if (ferror(output) || fclose(output) != 0) {
        give_up(argv[1], "cannot be written");
    }
    return 0;
}
