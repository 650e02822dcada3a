#include "script/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "famine.h"
#include "script/written.h"
#include "support.h"

static struct ld_texts *texts;

/* Note that PATH, for MODULE or NULL, had TEXT. */
static int note(struct ld_memory *memory, const char *path, const char *module, const char *text) {
    struct ld_texts_item *item = ld_texts_hold(texts, text, strlen(text));
    if (item == NULL) {
        return -ENOMEM;
    }
    int rc = ld_memory_note(memory, LD_MEMORY_TEXT, path, module, item);
    ld_texts_drop(texts, item);
    return rc;
}

/* The text of a file that was found, or "none". */
static const char *text_of(const struct ld_memory_file *file) {
    return file != NULL ? file->text->data : "none";
}

/* Begin with an empty set of texts; end with one. */
static void begin(void) {
    texts = ld_texts_new();
    REQUIRE(texts != NULL);
}

static void end(void) {
    CHECK_INT(0, ld_texts_count(texts));
    ld_texts_free(texts);
}

static void test_finds(void) {
    begin();
    struct ld_memory *memory = ld_memory_new(texts, false);
    char back[1000];
    REQUIRE(memory != NULL && getcwd(back, sizeof back) != NULL);
    write_file(box_path("m.lua"), "m");
    CHECK_INT(0, symlink(box_path("m.lua"), box_path("link.lua")));
    CHECK_INT(0, note(memory, box_path("link.lua"), "m", "text"));
    CHECK_INT(0, note(memory, "/none/x", NULL, "other"));
    CHECK_STR("text", text_of(ld_memory_find(memory, box_path("link.lua"))));
    CHECK_STR("text", text_of(ld_memory_find(memory, box_path("m.lua")))); /* the same file */
    CHECK_INT(0, chdir(box_path(".")));
    CHECK_STR("text", text_of(ld_memory_find(memory, "m.lua")));
    CHECK_STR("text", text_of(ld_memory_find_module(memory, "m")));
    CHECK_STR("other", text_of(ld_memory_find(memory, "/none/x")));
    CHECK_INT(0, unlink("link.lua"));
    CHECK_STR("text", text_of(ld_memory_find(memory, box_path("link.lua"))));
    CHECK_STR("none", text_of(ld_memory_find(memory, "/none/y")));
    CHECK_STR("none", text_of(ld_memory_find_module(memory, "n")));
    CHECK_INT(0, chdir(back));
    ld_memory_drop(memory);
    end();
}

static void test_again(void) {
    begin();
    struct ld_memory *memory = ld_memory_new(texts, true);
    REQUIRE(memory != NULL && ld_memory_wants_missing(memory));
    CHECK_INT(0, ld_memory_note(memory, LD_MEMORY_MISSING, "/none/x", NULL, NULL));
    CHECK_STR("none", text_of(ld_memory_find(memory, "/none/x")));
    CHECK_INT(0, note(memory, "/none/x", NULL, "first"));
    CHECK_INT(0, note(memory, "/none/x", NULL, "second"));
    CHECK_INT(0, ld_memory_note(memory, LD_MEMORY_MISSING, "/none/x", NULL, NULL)); /* by now */
    CHECK_STR("second", text_of(ld_memory_find(memory, "/none/x")));
    CHECK_INT(1, ld_memory_count(memory));
    CHECK_INT(1, ld_texts_count(texts));
    CHECK_INT(0, ld_memory_note(memory, LD_MEMORY_PATH, "/none/x.so", "x", NULL));
    CHECK_STR("/none/x.so", ld_memory_at(memory, 1)->path);
    CHECK(ld_memory_at(memory, 2) == NULL);
    ld_memory_drop(memory);
    struct ld_memory *other = ld_memory_new(texts, false);
    CHECK_INT(0, ld_memory_note(other, LD_MEMORY_MISSING, "/none/x", NULL, NULL));
    CHECK_INT(0, ld_memory_count(other));
    ld_memory_drop(other);
    ld_memory_drop(NULL);
    end();
}

static void test_shared(void) {
    begin();
    struct ld_memory *one = ld_memory_new(texts, false);
    struct ld_memory *other = ld_memory_new(texts, false);
    CHECK_INT(0, note(one, "/none/x", NULL, "same"));
    CHECK_INT(0, note(other, "/none/x", NULL, "same"));
    CHECK_INT(0, note(other, "/none/y", NULL, "more"));
    CHECK_INT(2, ld_texts_count(texts));
    CHECK(ld_memory_find(one, "/none/x")->text == ld_memory_find(other, "/none/x")->text);
    ld_memory_drop(ld_memory_hold(one));
    CHECK_STR("same", text_of(ld_memory_find(one, "/none/x")));
    ld_memory_drop(other);
    CHECK_INT(1, ld_texts_count(texts));
    ld_memory_drop(one);
    end();
}

static void test_full(void) {
    begin();
    struct ld_memory *memory = ld_memory_new(texts, false);
    size_t size = LD_MEMORY_BYTES - 10;
    char *large = calloc(1, size + 1);
    REQUIRE(memory != NULL && large != NULL);
    memset(large, 'x', size);
    CHECK_INT(0, note(memory, "/none/large", NULL, large));
    CHECK_INT(0, note(memory, "/none/x", NULL, "1234567890"));
    CHECK(!ld_memory_is_partial(memory));
    CHECK_INT(0, note(memory, "/none/y", NULL, "1"));
    CHECK(ld_memory_is_partial(memory));
    CHECK_INT(2, ld_memory_count(memory));
    CHECK_INT(0, note(memory, "/none/large", NULL, "small")); /* and there is room again */
    for (int i = 2; i < LD_MEMORY_FILES + 5; i++) {
        char path[32];
        snprintf(path, sizeof path, "/none/%d", i);
        CHECK_INT(0, note(memory, path, NULL, "text"));
    }
    CHECK_INT(LD_MEMORY_FILES, ld_memory_count(memory));
    free(large);
    ld_memory_drop(memory);
    end();
}

static void test_famine(void) {
    int failures = 0;
    for (long spared = 0; spared < 40; spared++) {
        begin();
        famine_begin(spared, FAMINE_FOR_GOOD);
        struct ld_memory *memory = ld_memory_new(texts, true);
        int rc = memory != NULL ? note(memory, "/none/x", "x", "text") : -ENOMEM;
        rc = rc == 0 ? note(memory, "/none/x", "x", "text 2") : rc;
        rc = rc == 0 ? ld_memory_note(memory, LD_MEMORY_MISSING, "y", NULL, NULL) : rc;
        famine_end();
        CHECK(rc == 0 || rc == -ENOMEM);
        failures += rc < 0;
        if (rc == 0) {
            CHECK_INT(2, ld_memory_count(memory));
            CHECK_STR("text 2", text_of(ld_memory_find_module(memory, "x")));
        }
        ld_memory_drop(memory);
        end();
    }
    CHECK(failures > 5 && failures < 40);
}

static void test_written(void) {
    struct ld_written *written = ld_written_new();
    REQUIRE(written != NULL);
    write_file(box_path("x"), "x");
    write_file(box_path("y"), "y");
    CHECK_INT(0, symlink(box_path("x"), box_path("link")));
    ld_written_note(written, box_path("link"));
    ld_written_note(written, "/none/x");
    CHECK(ld_written_has(written, box_path("x")));
    CHECK(!ld_written_has(written, box_path("y")));
    CHECK(!ld_written_has(written, "/none/x"));
    ld_written_clear(written);
    CHECK(!ld_written_has(written, box_path("x")));
    ld_written_free(written);
    ld_written_free(NULL);
}

static const struct check_case cases[] = {
    {"a text is found by each name of its file", test_finds},
    {"what is noted again", test_again},
    {"equal texts are kept once", test_shared},
    {"a full memory", test_full},
    {"memory that runs out", test_famine},
    {"what a script has written", test_written},
};

CHECK_MAIN(cases)
