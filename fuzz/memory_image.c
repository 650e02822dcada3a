/* The image of a memory, from a process that may write anything: what is refused leaves nothing, what is read is
 * written as it was. */
#include "script/memory_image.h"

#include <errno.h>
#include <string.h>

#include "fuzz.h"

/* Check a memory that was read: each file is found, and all are written as they were. */
static void check(const struct ld_memory *memory, const uint8_t *data, size_t size) {
    struct ld_text again = {0};
    const struct ld_memory_file *file;
    for (size_t i = 0; (file = ld_memory_at(memory, i)) != NULL; i++) {
        FUZZ_CHECK((file->text != NULL) == (file->kind == LD_MEMORY_TEXT));
        FUZZ_CHECK(file->path[0] != '\0' && file->absolute[0] != '\0');
        if (file->text != NULL && file->module != NULL) {
            FUZZ_CHECK(ld_memory_find_module(memory, file->module) != NULL);
        }
    }
    FUZZ_CHECK(ld_memory_image_write(memory, &again) == 0);
    FUZZ_CHECK(again.size == size && memcmp(again.data, data, size) == 0);
    ld_text_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ld_texts *texts = ld_texts_new();
    struct ld_memory *memory = NULL;
    struct ld_text why = {0};
    int rc = ld_memory_image_read(texts, (const char *)data, size, &memory, &why);
    FUZZ_CHECK(rc == 0 || rc == -EPROTO);
    FUZZ_CHECK(ld_text_is_empty(&why) == (rc == 0));
    fuzz_check_line(ld_text_string(&why), why.size);
    if (rc == 0) {
        check(memory, data, size);
        ld_memory_drop(memory);
    }
    FUZZ_CHECK(ld_texts_count(texts) == 0);
    ld_texts_free(texts);
    ld_text_fini(&why);
    return 0;
}
