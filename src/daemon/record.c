#include "daemon/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "base/writer.h"
#include "daemon/options.h"
#include "posix/paths.h"

#define SIZE_MAX_BYTES (16 << 20) /* an environment can have a few megabytes */
#define FORMAT         1
#define NOTE_SIZE      (8 * 4096) /* bytes of a note that a signal handler adds: a path, escaped */

static const char note_start[] = "{\"died\":";

/* Put together the name of the file. */
static void name_file(char *out, size_t size, const char *name) {
    snprintf(out, size, "%s" LD_PATHS_RECORD, name);
}

/* Put together the name of the file while it is written, which only the holder of the lock does. */
static void name_draft(char *out, size_t size, const char *name) {
    snprintf(out, size, ".%s" LD_PATHS_RECORD ".new", name);
}

/* Write BYTES to a new file NAME in DIR. */
static int write_new(int dir, const char *name, const char *bytes) {
    ld_file_remove(dir, name); /* of a process that died while it wrote */
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    int rc = fchmod(fd, 0600) < 0 ? -errno : ld_file_write(fd, bytes, strlen(bytes));
    close(fd);
    return rc;
}

/* Write the record under another name, then rename it, so that a reader never sees half of it. */
int ld_record_save(int dir, const char *name, const json_t *fields) {
    char file[80];
    char draft[100];
    json_t *copy = json_copy((json_t *)(uintptr_t)fields);
    name_file(file, sizeof file, name);
    name_draft(draft, sizeof draft, name);
    char *bytes = json_object_set_new(copy, "format", json_integer(FORMAT)) == 0
                      ? json_dumps(copy, JSON_COMPACT)
                      : NULL;
    int rc = bytes != NULL ? write_new(dir, draft, bytes) : -ENOMEM;
    if (rc == 0 && renameat(dir, draft, dir, file) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        ld_file_remove(dir, draft);
    }
    json_decref(copy);
    free(bytes);
    return rc;
}

/* Check that only its owner can have written the open file, and owns DIR too. */
static int check(int dir, int fd, struct stat *facts) {
    struct stat parent;
    if (fstat(fd, facts) < 0 || fstat(dir, &parent) < 0) {
        return -errno;
    }
    if (facts->st_uid != geteuid() && geteuid() != 0) {
        return -EACCES;
    }
    bool is_private = S_ISREG(facts->st_mode) && facts->st_nlink == 1 &&
                      facts->st_uid == parent.st_uid && (facts->st_mode & (S_IRWXG | S_IRWXO)) == 0;
    return !is_private ? -EPERM : facts->st_size > SIZE_MAX_BYTES ? -EPROTO : 0;
}

/* Read SIZE bytes, and no more if the file grows meanwhile. */
static int read_bytes(int fd, size_t size, struct ld_text *text) {
    char chunk[16384];
    while (text->size < size) {
        size_t left = size - text->size;
        ssize_t got = read(fd, chunk, left < sizeof chunk ? left : sizeof chunk);
        if (got <= 0 || text->failed) {
            return got < 0 ? -errno : got == 0 ? -EPROTO : -ENOMEM;
        }
        ld_text_add(text, chunk, (size_t)got);
    }
    return text->failed ? -ENOMEM : 0;
}

/* Take the death from a note that a signal handler has added to a record. */
static void take_note(json_t *fields, const char *bytes, size_t size) {
    static const char *const names[] = {"died", "death", "report"};
    json_t *note = json_loadb(bytes, size, 0, NULL);
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        json_t *value = json_object_get(note, names[i]);
        if (value != NULL) {
            json_object_set(fields, names[i], value);
        }
    }
    json_decref(note);
}

/* Parse a record: an object, and perhaps a note; one that was not written whole counts for nothing. NULL
 * if it is not a record. */
static json_t *parse(const struct ld_text *text) {
    json_error_t error;
    json_t *fields = json_loadb(ld_text_string(text), text->size, JSON_DISABLE_EOF_CHECK, &error);
    size_t used = (size_t)error.position; /* on success: the bytes that were read */
    const char *rest = ld_text_string(text) + (fields != NULL ? used : 0);
    bool is_whole = fields != NULL && used >= text->size;
    bool has_note = fields != NULL && !is_whole && rest[0] == note_start[0];
    if ((!is_whole && !has_note) ||
        json_integer_value(json_object_get(fields, "format")) != FORMAT) {
        json_decref(fields);
        return NULL;
    }
    if (has_note) {
        take_note(fields, rest, text->size - used);
    }
    return fields;
}

/* Read NAME.start as JSON, a new reference. */
static int read_fields(int dir, const char *name, json_t **fields, struct stat *facts) {
    char file[80];
    struct ld_text text = {0};
    name_file(file, sizeof file, name);
    int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ELOOP ? -EPERM : -errno;
    }
    int rc = check(dir, fd, facts);
    if (rc == 0) {
        rc = read_bytes(fd, (size_t)facts->st_size, &text);
    }
    close(fd);
    if (rc == 0) {
        *fields = parse(&text);
        rc = *fields != NULL ? 0 : -EPROTO;
    }
    ld_text_fini(&text);
    return rc;
}

/* Save FIELDS with a death now. */
static int save_death(int dir, const char *name, json_t *fields, const char *how,
                      const char *report) {
    json_object_set_new(fields, "died", json_integer(ld_time_real() / LD_TIME_SECOND));
    json_object_set_new(fields, "death", json_string(how));
    json_object_set_new(fields, "report", ld_json_bytes(report));
    return ld_record_save(dir, name, fields);
}

/* Note a death in the record. */
void ld_record_note_death(int dir, const char *name, const char *how, const char *report) {
    struct stat facts;
    json_t *fields = NULL;
    if (read_fields(dir, name, &fields, &facts) < 0) {
        return;
    }
    save_death(dir, name, fields, how, report);
    json_decref(fields);
}

/* Add a string in the form of ld_json_bytes. */
static void add_bytes(struct ld_writer *writer, const char *string) {
    char encoded[2];
    char quoted[16];
    for (const unsigned char *at = (const unsigned char *)string; *at != '\0'; at++) {
        struct ld_writer one = {.buffer = quoted, .capacity = sizeof quoted};
        encoded[0] = (char)(*at >= 0x80 ? 0xC0 | *at >> 6 : *at);
        encoded[1] = (char)(0x80 | (*at & 0x3F));
        ld_writer_json(&one, encoded, *at >= 0x80 ? 2 : 1);
        ld_writer_add(writer, quoted + 1, one.size - 2); /* without the quotes */
    }
}

/* Note our own death. A handler can neither parse the record nor replace it, so it adds an object to
 * it, in one write. */
void ld_record_note_own_death(int dir, const char *name, const char *how, const char *report) {
    static char bytes[NOTE_SIZE];
    struct ld_writer writer = {.buffer = bytes, .capacity = sizeof bytes};
    char file[80] = "";
    size_t length = strnlen(name, sizeof file - sizeof LD_PATHS_RECORD);
    memcpy(file, name, length);
    memcpy(file + length, LD_PATHS_RECORD, sizeof LD_PATHS_RECORD);
    int fd = openat(dir, file, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return; /* then it is not known how it died */
    }
    ld_writer_puts(&writer, note_start);
    ld_writer_decimal(&writer, ld_time_real() / LD_TIME_SECOND, 1);
    ld_writer_puts(&writer, ",\"death\":\"");
    add_bytes(&writer, how);
    if (report != NULL) {
        ld_writer_puts(&writer, "\",\"report\":\"");
        add_bytes(&writer, report);
    }
    ld_writer_puts(&writer, "\"}\n");
    if (write(fd, bytes, writer.size) < 0) {
        /* The same. */
    }
    close(fd);
}

/* Write a record again. */
int ld_record_restore(const struct ld_record *record, int dir, const char *name, const char *how) {
    return how != NULL ? save_death(dir, name, record->fields, how, NULL)
                       : ld_record_save(dir, name, record->fields);
}

/* Free a vector of strings. */
static void free_strings(char **strings) {
    for (char **at = strings; at != NULL && *at != NULL; at++) {
        free(*at);
    }
    free(strings);
}

/* Make a vector of strings from a JSON array of strings; NULL for anything else. */
static char **take_strings(const json_t *array) {
    size_t count = json_array_size(array);
    char **strings = json_is_array(array) ? calloc(count + 1, sizeof *strings) : NULL;
    for (size_t i = 0; strings != NULL && i < count; i++) {
        strings[i] = ld_json_take_bytes(json_array_get(array, i));
        if (strings[i] == NULL) {
            free_strings(strings);
            return NULL;
        }
    }
    return strings;
}

/* Check whether a number can be a time, until the end of the year 9999. */
static bool is_time(double seconds) {
    return seconds >= 0 && seconds < 253402300800.0;
}

/* Read NAME.start. */
int ld_record_load(struct ld_record *record, int dir, const char *name) {
    struct stat facts = {0};
    json_t *fields = NULL;
    *record = (struct ld_record){0};
    int rc = dir >= 0 ? read_fields(dir, name, &fields, &facts) : -ENOENT;
    if (rc < 0) {
        return rc;
    }
    record->uid = facts.st_uid;
    record->cwd = ld_json_take_bytes(json_object_get(fields, "cwd"));
    record->words = take_strings(json_object_get(fields, "words"));
    record->environment = take_strings(json_object_get(fields, "environment"));
    record->script = ld_json_take_bytes(json_object_get(fields, "script"));
    record->text = ld_json_take_bytes(json_object_get(fields, "text"));
    record->log = ld_json_take_bytes(json_object_get(fields, "log"));
    record->start_timeout = json_number_value(json_object_get(fields, "start_timeout"));
    record->stop_timeout = json_number_value(json_object_get(fields, "stop_timeout"));
    record->probation = json_number_value(json_object_get(fields, "probation"));
    record->died = json_number_value(json_object_get(fields, "died"));
    record->death = ld_json_take_bytes(json_object_get(fields, "death"));
    record->report = ld_json_take_bytes(json_object_get(fields, "report"));
    record->fields = fields;
    bool is_whole = record->words != NULL && record->words[0] != NULL && record->words[1] != NULL &&
                    record->environment != NULL;
    if (!is_whole || !is_time(record->died) || !is_time(record->start_timeout) ||
        !is_time(record->stop_timeout) || !is_time(record->probation)) {
        ld_record_fini(record);
        return -EPROTO;
    }
    return 0;
}

/* Add a Unix time in the format of the log. */
static void add_time(struct ld_text *text, time_t time) {
    char words[32];
    struct tm parts = {.tm_year = 70, .tm_mday = 1};
    gmtime_r(&time, &parts);
    strftime(words, sizeof words, "%Y-%m-%dT%H:%M:%SZ", &parts);
    ld_text_puts(text, words);
}

/* Find when the service last wrote to one of its files. */
static time_t last_sign(const struct ld_record *record, int dir, const char *name) {
    char file[80];
    struct stat facts;
    time_t last = 0;
    name_file(file, sizeof file, name);
    if (fstatat(dir, file, &facts, AT_SYMLINK_NOFOLLOW) == 0) {
        last = facts.st_mtime;
    }
    if (record->log != NULL && lstat(record->log, &facts) == 0 && facts.st_mtime > last) {
        last = facts.st_mtime;
    }
    return last;
}

/* Say when and how the service ended. */
void ld_record_describe_death(struct ld_text *text, const struct ld_record *record, int dir,
                              const char *name) {
    if (record->death != NULL) {
        bool is_own_act = strncmp(record->death, "exited ", 7) == 0 ||
                          strncmp(record->death, "failed ", 7) == 0 ||
                          strcmp(record->death, "finished") == 0;
        ld_text_format(text, "%s%s at ", is_own_act ? "" : "was ", record->death);
        add_time(text, (time_t)record->died);
        if (record->report != NULL) {
            ld_text_format(text, ", report in %s", record->report);
        }
    } else {
        ld_text_puts(text,
                     "died (killed, or the machine went down); its last sign of life was at ");
        add_time(text, last_sign(record, dir, name));
    }
}

/* Free what a record holds. */
void ld_record_fini(struct ld_record *record) {
    free(record->cwd);
    free_strings(record->words);
    free_strings(record->environment);
    free(record->script);
    free(record->text);
    free(record->log);
    free(record->death);
    free(record->report);
    json_decref(record->fields);
    *record = (struct ld_record){0};
}

/* Remove NAME.start. */
void ld_record_remove(int dir, const char *name) {
    char file[100];
    name_file(file, sizeof file, name);
    ld_file_remove(dir, file);
    name_draft(file, sizeof file, name); /* left by a process that was killed while it wrote */
    ld_file_remove(dir, file);
}

/* Read which worker it is, by its name too. */
unsigned ld_record_worker(const struct ld_record *record, const char *name) {
    char ending[16];
    json_int_t number = json_integer_value(json_object_get(record->fields, "worker"));
    if (number < 1 || number > LD_WORKERS_MAX) {
        return 0;
    }
    size_t size = (size_t)snprintf(ending, sizeof ending, "-%d", (int)number);
    size_t length = strlen(name);
    bool fits = length > size && strcmp(name + length - size, ending) == 0;
    return fits ? (unsigned)number : 0;
}
