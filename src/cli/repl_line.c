#include "cli/repl_line.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/repl_history.h"

#define DROP      3  /* Ctrl-C */
#define END       4  /* Ctrl-D */
#define GAP       2  /* between the columns of names */
#define COLUMNS   80 /* of a terminal that does not say */
#define SHIFT_TAB "  "

/* The functions of libedit. A daemon does not have it in its memory. */
static struct {
    __typeof__(el_init) *init;
    __typeof__(el_end) *end;
    __typeof__(el_reset) *reset;
    __typeof__(el_gets) *gets;
    __typeof__(el_push) *push;
    __typeof__(el_set) *set;
    __typeof__(el_wset) *wset; /* it keeps names, where the other loses copies of them */
    __typeof__(el_get) *get;
    __typeof__(el_resize) *resize;
    __typeof__(el_line) *line;
    __typeof__(el_insertstr) *insert;
    __typeof__(history_init) *history_init;
    __typeof__(history_end) *history_end;
    __typeof__(history) *history;
} edit;

struct ld_repl_line {
    struct ld_repl_line_config config;
    EditLine *editor;
    History *history;
    struct ld_repl_history file;
    const char *prompt;
    bool is_dropped;
    bool is_typing; /* a line is on the terminal */
    char bytes[4];  /* of a character that is not whole */
    size_t count;
};

/* Open the library; false with the reason in WHY. */
static bool open_library(struct ld_text *why) {
    static const char *const names[] = {"libedit.so.2", "libedit.so.0"};
    const struct {
        const char *name;
        void *function;
    } symbols[] = {{"el_init", &edit.init},
                   {"el_end", &edit.end},
                   {"el_reset", &edit.reset},
                   {"el_gets", &edit.gets},
                   {"el_push", &edit.push},
                   {"el_set", &edit.set},
                   {"el_wset", &edit.wset},
                   {"el_get", &edit.get},
                   {"el_resize", &edit.resize},
                   {"el_line", &edit.line},
                   {"el_insertstr", &edit.insert},
                   {"history_init", &edit.history_init},
                   {"history_end", &edit.history_end},
                   {"history", &edit.history}};
    void *library = NULL;
    for (size_t i = 0; library == NULL && i < LD_COUNT(names); i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    for (size_t i = 0; library != NULL && i < LD_COUNT(symbols); i++) {
        void *symbol = dlsym(library, symbols[i].name);
        memcpy(symbols[i].function, &symbol, sizeof symbol);
        library = symbol != NULL ? library : NULL;
    }
    if (library == NULL) {
        ld_text_format(why, "a console on a terminal needs libedit (apt-get install libedit2): %s",
                       dlerror());
    }
    return library != NULL;
}

/* Find the line that an editor belongs to. */
static struct ld_repl_line *owner(EditLine *editor) {
    void *line = NULL;
    edit.get(editor, EL_CLIENTDATA, &line);
    return line;
}

/* The prompt. */
static char *on_prompt(EditLine *editor) {
    return (char *)(uintptr_t)owner(editor)->prompt;
}

/* How many columns the terminal has. */
static size_t columns(void) {
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS;
}

/* Count the characters of some text. */
static size_t count_characters(const char *from, const char *to) {
    size_t count = 0;
    for (; from < to; from++) {
        count += ((unsigned char)*from & 0xC0) != 0x80;
    }
    return count;
}

/* Erase the line that is being typed, or draw it again, around what the host has written. */
static void on_output(void *arg, bool begins) {
    struct ld_repl_line *line = arg;
    if (!line->is_typing) {
        return;
    }
    if (begins) {
        const LineInfo *info = edit.line(line->editor);
        size_t cells = strlen(line->prompt) + count_characters(info->buffer, info->cursor);
        size_t rows = cells / columns();
        if (rows > 0) {
            printf("\033[%zuA", rows);
        }
        fputs("\r\033[J", stdout);
        fflush(stdout);
    } else {
        fputs(line->config.wait->torn ? "\n" : "", stdout);
        fflush(stdout);
        edit.set(line->editor, EL_REFRESH);
    }
}

/* Act on what has happened beside a key; true if the line is over, or dropped. */
static bool act(struct ld_repl_line *line) {
    struct ld_repl_wait *wait = line->config.wait;
    if (wait->resized) {
        wait->resized = false;
        edit.resize(line->editor);
    }
    if (wait->suspended) {
        edit.set(line->editor, EL_PREP_TERM, 0);
        ld_repl_wait_suspend(wait);
        edit.set(line->editor, EL_PREP_TERM, 1);
        edit.set(line->editor, EL_REFRESH);
    }
    return wait->interrupted || wait->ended != 0 || wait->is_over;
}

/* Take one more byte of a character: 1 with the character, 0 if it is not whole. */
static int take_byte(struct ld_repl_line *line, char byte, wchar_t *character) {
    mbstate_t state = {0};
    if (byte == '\0') {
        byte = END; /* as a Ctrl-D comes that was typed too early */
    }
    line->bytes[line->count++] = byte;
    size_t size = mbrtowc(character, line->bytes, line->count, &state);
    if (size == (size_t)-2 && line->count < sizeof line->bytes) {
        return 0;
    }
    if (size == (size_t)-1 || size == (size_t)-2) {
        *character = L'?';
    }
    line->count = 0;
    return 1;
}

/* Read a character: 1 with it, 0 at the end. */
static int on_read(EditLine *editor, wchar_t *character) {
    struct ld_repl_line *line = owner(editor);
    struct ld_repl_wait *wait = line->config.wait;
    for (;;) {
        struct pollfd poller = {.fd = STDIN_FILENO, .events = POLLIN};
        char byte;
        if (act(line)) {
            bool is_drop = wait->interrupted && wait->ended == 0 && !wait->is_over;
            wait->interrupted = false;
            *character = DROP;
            return is_drop;
        }
        int rc = ld_repl_wait_poll(wait, &poller, -1);
        if (rc < 0 && errno != EINTR) {
            return 0;
        }
        ssize_t size = rc > 0 ? read(STDIN_FILENO, &byte, 1) : -1;
        if (rc > 0 && size <= 0 && (size == 0 || (errno != EINTR && errno != EAGAIN))) {
            return 0;
        }
        if (size == 1 && take_byte(line, byte, character) == 1) {
            return 1;
        }
    }
}

/* Drop the line: an end of the line follows, which has the terminal go to the next. */
static unsigned char on_drop(EditLine *editor, int key) {
    (void)key;
    owner(editor)->is_dropped = true;
    edit.push(editor, "\n");
    return CC_NORM;
}

/* How long the beginning is that all names have. */
static size_t find_common(const json_t *names) {
    const char *first = json_string_value(json_array_get(names, 0));
    size_t common = strlen(first);
    for (size_t i = 1; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        size_t same = 0;
        while (same < common && name[same] == first[same]) {
            same++;
        }
        common = same;
    }
    return common;
}

/* Whether this is a name: what a daemon says must not act on the terminal. */
static bool is_name(const char *name) {
    size_t length = 0;
    while (name != NULL && ((isalnum)((unsigned char)name[length]) || name[length] == '_')) {
        length++;
    }
    return length > 0 && name[length] == '\0';
}

/* Whether these are names, one or more. */
static bool are_names(const json_t *names) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        if (!is_name(json_string_value(json_array_get(names, i)))) {
            return false;
        }
    }
    return json_array_size(names) > 0;
}

/* Print names in columns below the line. */
static void list_names(const json_t *names) {
    size_t widest = 0;
    size_t count = json_array_size(names);
    for (size_t i = 0; i < count; i++) {
        size_t length = json_string_length(json_array_get(names, i));
        widest = length > widest ? length : widest;
    }
    size_t across = columns() / (widest + GAP);
    across = across > 0 ? across : 1;
    size_t down = (count + across - 1) / across;
    fputs("\n", stdout);
    for (size_t i = 0; i < down * across; i++) {
        size_t at = i % across * down + i / across;
        const char *name = json_string_value(json_array_get(names, at));
        bool is_last = (i + 1) % across == 0;
        printf("%-*s%s", is_last ? 0 : (int)(widest + GAP), name != NULL ? name : "",
               is_last ? "\n" : "");
    }
    fflush(stdout);
}

/* Complete the name before the cursor. */
static unsigned char on_tab(EditLine *editor, int key) {
    struct ld_repl_line *line = owner(editor);
    const LineInfo *info = edit.line(editor);
    size_t size = (size_t)(info->cursor - info->buffer);
    size_t blank = strspn(info->buffer, " \t");
    size_t typed = 0;
    (void)key;
    if (blank >= size) {
        return edit.insert(editor, SHIFT_TAB) == 0 ? CC_REFRESH : CC_ERROR;
    }
    while (typed < size && ((isalnum)((unsigned char)info->cursor[-1 - (ptrdiff_t)typed]) ||
                            info->cursor[-1 - (ptrdiff_t)typed] == '_')) {
        typed++;
    }
    json_t *names = line->config.complete(line->config.arg, info->buffer, size);
    unsigned char result = CC_ERROR;
    if (are_names(names)) {
        size_t common = find_common(names);
        const char *first = json_string_value(json_array_get(names, 0));
        if (common > typed) {
            char *rest = strndup(first + typed, common - typed);
            result = rest != NULL && edit.insert(editor, rest) == 0 ? CC_REFRESH : CC_ERROR;
            free(rest);
        } else if (json_array_size(names) > 1) {
            list_names(names);
            result = CC_REDISPLAY;
        } else {
            result = CC_NORM;
        }
    }
    json_decref(names);
    return result;
}

/* Remember a line of the file. */
static void on_old_line(void *arg, const char *text) {
    HistEvent event;
    edit.history(arg, &event, H_ENTER, text);
}

/* Set the editor up. */
static void set_editor(struct ld_repl_line *line) {
    EditLine *editor = line->editor;
    HistEvent event;
    edit.set(editor, EL_CLIENTDATA, line);
    edit.set(editor, EL_PROMPT, on_prompt);
    edit.set(editor, EL_EDITOR, "emacs");
    edit.set(editor, EL_SIGNAL, 0);
    edit.set(editor, EL_GETCFN, on_read);
    edit.wset(editor, EL_ADDFN, L"lunad-complete", L"complete a name", on_tab);
    edit.wset(editor, EL_ADDFN, L"lunad-drop", L"drop the line", on_drop);
    edit.set(editor, EL_BIND, "^I", "lunad-complete", NULL);
    edit.set(editor, EL_BIND, "^C", "lunad-drop", NULL);
    edit.set(editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    edit.history(line->history, &event, H_SETSIZE, LD_REPL_HISTORY_LINES);
    edit.history(line->history, &event, H_SETUNIQUE, 1);
    edit.set(editor, EL_HIST, edit.history, line->history);
}

/* Open. */
int ld_repl_line_open(struct ld_repl_line **out, const struct ld_repl_line_config *config,
                      struct ld_text *why) {
    *out = NULL;
    if (!open_library(why)) {
        return -ENOSYS;
    }
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
    struct ld_repl_line *line = calloc(1, sizeof *line);
    if (line != NULL) {
        line->file.fd = -1;
        line->config = *config;
        line->prompt = "";
        line->history = edit.history_init();
        line->editor = edit.init("lunad", stdin, stdout, stderr);
    }
    if (line == NULL || line->history == NULL || line->editor == NULL) {
        ld_text_puts(why, "the terminal cannot be used");
        if (line != NULL) {
            ld_repl_line_close(line);
        }
        return -ENOMEM;
    }
    set_editor(line);
    config->wait->on_output = on_output;
    config->wait->arg = line;
    ld_repl_history_open(&line->file, on_old_line, line->history,
                         why); /* WHY: it goes on without */
    *out = line;
    return 0;
}

/* Close. */
void ld_repl_line_close(struct ld_repl_line *line) {
    line->config.wait->on_output = NULL;
    if (line->editor != NULL) {
        edit.end(line->editor);
    }
    if (line->history != NULL) {
        edit.history_end(line->history);
    }
    ld_repl_history_close(&line->file);
    free(line);
}

/* Remember a line that was typed, unless it is the last one again. */
static void remember(const struct ld_repl_line *line, const char *text) {
    HistEvent event;
    bool is_blank = text[strspn(text, " \t")] == '\0';
    bool is_again =
        edit.history(line->history, &event, H_FIRST) >= 0 && strcmp(event.str, text) == 0;
    if (!is_blank && !is_again) {
        edit.history(line->history, &event, H_ENTER, text);
        ld_repl_history_add(&line->file, text);
    }
}

/* Read a line. */
enum ld_repl_key ld_repl_line_read(struct ld_repl_line *line, const char *prompt,
                                   struct ld_text *text) {
    int count = 0;
    line->prompt = prompt;
    line->is_dropped = false;
    line->is_typing = true;
    edit.set(line->editor, EL_PREP_TERM,
             1); /* before the prompt: what is typed at it is a key then */
    const char *typed = edit.gets(line->editor, &count);
    line->is_typing = false;
    ld_text_clear(text);
    if (line->is_dropped) {
        edit.reset(line->editor);
        return LD_REPL_DROPPED;
    }
    if (typed == NULL || count <= 0) {
        return LD_REPL_END;
    }
    size_t size = strcspn(typed, "\n");
    ld_text_add(text, typed, size);
    remember(line, ld_text_string(text));
    return LD_REPL_LINE;
}
