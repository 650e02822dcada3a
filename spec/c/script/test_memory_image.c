#include "script/memory_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "famine.h"
#include "support.h"

static const char three[] = "lunad-memory 1 3\n"
                            "text 6 - 6 6 8\n"
                            "/a.lua/a.lua/b.luareturn 1\n"
                            "text 5 1 8 - 0\n"
                            "m.luam/b/m.lua\n"
                            "path 5 1 5 5 -\n"
                            "/c.soc/c.so/c.so\n"
                            "end\n";

/* Read an image; what was wrong with it, or "". */
static const char *read_image(struct ld_texts *texts, const char *bytes, size_t size,
                              struct ld_memory **memory) {
    static struct ld_text why;
    ld_text_clear(&why);
    *memory = NULL;
    int rc = ld_memory_image_read(texts, bytes, size, memory, &why);
    CHECK_INT(ld_text_is_empty(&why) ? 0 : -EPROTO, rc);
    CHECK((*memory != NULL) == (rc == 0));
    return ld_text_string(&why);
}

static void test_read(void) {
    struct ld_texts *texts = ld_texts_new();
    struct ld_memory *memory;
    struct ld_text again = {0};
    CHECK_STR("", read_image(texts, three, strlen(three), &memory));
    REQUIRE(memory != NULL);
    CHECK_INT(3, ld_memory_count(memory));
    CHECK_STR("return 1", ld_memory_find(memory, "/a.lua")->text->data);
    CHECK_STR("m.lua", ld_memory_find_module(memory, "m")->path);
    CHECK(ld_memory_find_module(memory, "m")->real == NULL);
    CHECK(ld_memory_find_module(memory, "c") == NULL); /* its text is not remembered */
    CHECK_INT(0, ld_memory_note(memory, LD_MEMORY_PATH, "/d.so", NULL, NULL));
    CHECK_INT(4, ld_memory_count(memory));
    ld_memory_drop(memory);
    CHECK_STR("", read_image(texts, three, strlen(three), &memory));
    CHECK_INT(0, ld_memory_image_write(memory, &again));
    CHECK_STR(three, ld_text_string(&again));
    ld_text_fini(&again);
    ld_memory_drop(memory);
    CHECK_INT(0, ld_texts_count(texts));
    ld_texts_free(texts);
}

static void test_missing(void) {
    struct ld_texts *texts = ld_texts_new();
    struct ld_memory *memory = ld_memory_new(texts, true);
    struct ld_text image = {0};
    CHECK_INT(0, ld_memory_note(memory, LD_MEMORY_MISSING, "/none", NULL, NULL));
    CHECK_INT(0, ld_memory_image_write(memory, &image));
    CHECK_STR("lunad-memory 1 0\nend\n", ld_text_string(&image));
    ld_text_fini(&image);
    ld_memory_drop(memory);
    ld_texts_free(texts);
}

static void test_every_beginning(void) {
    struct ld_texts *texts = ld_texts_new();
    struct ld_memory *memory;
    for (size_t size = 0; size < strlen(three); size++) {
        char *bytes = malloc(size + 1);
        memcpy(bytes, three, size);
        CHECK(strstr(read_image(texts, bytes, size, &memory), "should begin ") != NULL);
        CHECK_INT(0, ld_texts_count(texts));
        free(bytes);
    }
    ld_texts_free(texts);
}

static void test_refused(void) {
    static const struct {
        const char *bytes;
        const char *why;
    } cases[] = {
        {"lunad-memory 2 0\nend\n", "byte 0 "},
        {"lunad-memory 1 0\nend\nx", "byte 21 of the remembered code should begin its end"},
        {"lunad-memory 1 00\nend\n", "a number"},
        {"lunad-memory 1 10001\nend\n", "a number"},
        {"lunad-memory 1 99999999999999999999999\nend\n", "a number"},
        {"lunad-memory 1 -1\nend\n", "a number"},
        {"lunad-memory 1 1\ntext - - 1 - 1\nxy\nend\n", "a file with a path"},
        {"lunad-memory 1 1\ntext 1 - - - 1\nxy\nend\n", "a file with a path"},
        {"lunad-memory 1 1\ntext 1 - 1 - -\nxy\nend\n", "a file with a path"},
        {"lunad-memory 1 1\npath 1 - 1 - 1\nxyz\nend\n", "a file with a path"},
        {"lunad-memory 1 1\npath 0 - 1 - -\ny\nend\n", "a name"},
        {"lunad-memory 1 1\npath 99 - 1 - -\nxy\nend\n", "a number"},
        {"lunad-memory 1 1\npath 40 - 1 - -\nxy\nend\n", "more bytes"},
        {"lunad-memory 1 1\nfile 1 - 1 - -\nxy\nend\n", "path"},
        {"lunad-memory 1 2\npath 1 - 1 - -\nxy\npath 1 - 1 - -\nxz\nend\n", "another file"},
    };
    struct ld_texts *texts = ld_texts_new();
    struct ld_memory *memory;
    for (size_t i = 0; i < LD_COUNT(cases); i++) {
        const char *why = read_image(texts, cases[i].bytes, strlen(cases[i].bytes), &memory);
        if (strstr(why, cases[i].why) == NULL) {
            CHECK_STR(cases[i].why, why);
        }
    }
    static const char zero[] = "lunad-memory 1 1\npath 3 - 1 - -\nx\0yz\nend\n";
    CHECK(strstr(read_image(texts, zero, sizeof zero - 1, &memory), "a name") != NULL);
    CHECK_INT(0, ld_texts_count(texts));
    ld_texts_free(texts);
}

static void test_famine(void) {
    int failures = 0;
    for (long spared = 0; spared < 60; spared++) {
        struct ld_texts *texts = ld_texts_new();
        struct ld_memory *memory = NULL;
        struct ld_text why = {0};
        struct ld_text again = {0};
        famine_begin(spared, FAMINE_FOR_GOOD);
        int rc = ld_memory_image_read(texts, three, strlen(three), &memory, &why);
        rc = rc == 0 ? ld_memory_image_write(memory, &again) : rc;
        famine_end();
        CHECK(rc == 0 || rc == -ENOMEM);
        failures += rc < 0;
        if (rc == 0) {
            CHECK_STR(three, ld_text_string(&again));
        }
        ld_memory_drop(memory);
        ld_text_fini(&why);
        ld_text_fini(&again);
        CHECK_INT(0, ld_texts_count(texts));
        ld_texts_free(texts);
    }
    CHECK(failures > 5 && failures < 60);
}

static const struct check_case cases[] = {
    {"what was written is read", test_read},
    {"what was missing is left out", test_missing},
    {"every beginning of an image is refused", test_every_beginning},
    {"what the writer does not write is refused", test_refused},
    {"memory that runs out", test_famine},
};

CHECK_MAIN(cases)
