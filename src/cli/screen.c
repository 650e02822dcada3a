#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/say.h"
#include "base/time.h"

#define PERIOD_S 1
#define LABEL    12 /* columns of the label of a line */

static struct {
    bool is_drawing;
    struct ld_text frame;
    struct termios before;
} screen;

static volatile sig_atomic_t is_over;
static volatile sig_atomic_t has_changed; /* its size */

/* Whether there is to be colour. */
static bool has_colour(void) {
    const char *refusal = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    return isatty(STDOUT_FILENO) && (refusal == NULL || refusal[0] == '\0') && kind != NULL &&
           strcmp(kind, "dumb") != 0;
}

/* Add text in a colour. */
void ld_screen_paint(struct ld_text *text, enum ld_paint paint, const char *bytes, size_t size) {
    static const char *const codes[] = {[LD_PAINT_BOLD] = "\033[1m",
                                        [LD_PAINT_LABEL] = "\033[36m",
                                        [LD_PAINT_GOOD] = "\033[32m",
                                        [LD_PAINT_BUSY] = "\033[33m",
                                        [LD_PAINT_BAD] = "\033[31m"};
    if (has_colour()) {
        ld_text_puts(text, codes[paint]);
        ld_text_add(text, bytes, size);
        ld_text_puts(text, "\033[0m");
    } else {
        ld_text_add(text, bytes, size);
    }
}

/* The paint of a state. */
enum ld_paint ld_screen_paint_of(const char *state) {
    static const char *const bad[] = {"dead", "not running"};
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        if (strncmp(state, bad[i], strlen(bad[i])) == 0) {
            return LD_PAINT_BAD;
        }
    }
    return strncmp(state, "running", 7) == 0 ? LD_PAINT_GOOD : LD_PAINT_BUSY;
}

/* Show a text. */
void ld_screen_show(const struct ld_text *text) {
    if (screen.is_drawing) {
        ld_text_append(&screen.frame, text);
        ld_text_putc(&screen.frame, '\n');
    } else if (!has_colour()) {
        ld_say_text(text);
    } else if (text->failed) {
        ld_say_error("not enough memory");
    } else {
        fwrite(ld_text_string(text), 1, text->size, stdout);
        putchar('\n');
        fflush(stdout);
    }
}

/* Paint the first line of a report: "NAME: STATE, ...". */
static void paint_headline(struct ld_text *shown, const char *line, size_t size) {
    const char *colon = memchr(line, ':', size);
    size_t name = colon != NULL ? (size_t)(colon - line) : size;
    const char *state = line + name + 2;
    if (name + 2 >= size) {
        ld_text_add(shown, line, size);
        return;
    }
    size_t length = 0;
    while (state + length < line + size && strchr(", (", state[length]) == NULL) {
        length++;
    }
    bool is_long = strncmp(state, "not running", 11) == 0;
    bool is_busy = memmem(line, size, ", but ", 6) != NULL && strncmp(state, "running", 7) == 0;
    length = is_long ? 11 : length;
    ld_screen_paint(shown, LD_PAINT_BOLD, line, name);
    ld_text_puts(shown, ": ");
    ld_screen_paint(shown, is_busy ? LD_PAINT_BUSY : ld_screen_paint_of(state), state, length);
    ld_text_add(shown, state + length, size - name - 2 - length);
}

/* Paint one of the other lines, which begins with a label or with blanks. */
static void paint_line(struct ld_text *shown, const char *line, size_t size) {
    bool has_label = size > LABEL && line[0] == ' ' && line[1] == ' ' && line[2] != ' ' &&
                     line[LABEL - 1] == ' ';
    if (!has_label) {
        ld_text_add(shown, line, size);
        return;
    }
    bool is_bad = strncmp(line + 2, "errors ", 7) == 0 || strncmp(line + 2, "slow ", 5) == 0;
    ld_screen_paint(shown, is_bad ? LD_PAINT_BAD : LD_PAINT_LABEL, line, LABEL);
    ld_text_add(shown, line + LABEL, size - LABEL);
}

/* Show a report. */
void ld_screen_show_report(const struct ld_text *text) {
    struct ld_text shown = {.failed = text->failed};
    const char *line = ld_text_string(text);
    const char *end = line + text->size;
    while (has_colour() && line <= end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((newline != NULL ? newline : end) - line);
        if (line == ld_text_string(text)) {
            paint_headline(&shown, line, size);
        } else {
            ld_text_putc(&shown, '\n');
            paint_line(&shown, line, size);
        }
        line += size + 1;
    }
    ld_screen_show(has_colour() ? &shown : text);
    ld_text_fini(&shown);
}

/* Note that a signal asks to end. */
static void on_end(int signo) {
    (void)signo;
    is_over = 1;
}

/* Note that the terminal has another size. */
static void on_resize(int signo) {
    (void)signo;
    has_changed = 1;
}

/* Write all bytes to the terminal; what it does not take ends the watch. */
static void write_all(const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t done = write(STDOUT_FILENO, bytes, size);
        if (done < 0 && errno != EINTR) {
            is_over = 1;
            return;
        }
        bytes += done > 0 ? done : 0;
        size -= done > 0 ? (size_t)done : 0;
    }
}

/* Write a string to the terminal. */
static void write_string(const char *string) {
    write_all(string, strlen(string));
}

/* Take the terminal: no echo, each key at once, another screen, no cursor. Ctrl-Z would leave it like that. */
static bool take_terminal(void) {
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &screen.before) < 0) {
        return false;
    }
    raw = screen.before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_string("\033[?1049h\033[?25l");
    return true;
}

/* Give the terminal back as it was. */
static void give_back_terminal(void) {
    write_string("\033[?25h\033[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, &screen.before);
}

/* Add a line, cut to WIDTH columns: characters count, what begins with ESC and ends with m does not. */
static void add_cut(struct ld_text *out, const char *line, size_t size, int width) {
    int columns = 0;
    for (size_t i = 0; i < size; i++) {
        bool is_paint = line[i] == '\033';
        size_t length = 1;
        while (is_paint && i + length < size && line[i + length - 1] != 'm') {
            length++;
        }
        bool is_first = ((unsigned char)line[i] & 0xC0) != 0x80;
        columns += !is_paint && is_first;
        if (is_paint || columns <= width) {
            ld_text_add(out, line + i, length);
        }
        i += length - 1;
    }
}

/* Show the frame on the terminal, as much as fits. */
static void show_frame(void) {
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    struct ld_text out = {0};
    const char *line = ld_text_string(&screen.frame);
    const char *end = line + screen.frame.size;
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    int rows = size.ws_row > 1 ? size.ws_row : 24;
    int width = size.ws_col > 0 ? size.ws_col : 80;
    ld_text_puts(&out, "\033[H");
    for (int row = 0; row < rows - 1 && line < end; row++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline != NULL ? newline : end) - line);
        add_cut(&out, line, length, width);
        ld_text_puts(&out, "\033[K\r\n");
        line += length + 1;
    }
    ld_text_puts(&out, "\033[J");
    write_all(ld_text_string(&out), out.size);
    ld_text_fini(&out);
}

/* Draw once; what DRAW returns. */
static int draw_frame(int (*draw)(void *arg), void *arg) {
    char date[40];
    time_t now = (time_t)(ld_time_real() / LD_TIME_SECOND);
    struct tm local;
    ld_text_clear(&screen.frame);
    if (localtime_r(&now, &local) != NULL) {
        strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
        ld_text_format(&screen.frame, "%s  (q ends)\n\n", date);
    }
    screen.is_drawing = true;
    int status = draw(arg);
    screen.is_drawing = false;
    return status;
}

/* Wait for a key, a signal or the next time; the signals are blocked but here. */
static void wait_for_next(const sigset_t *open) {
    const struct timespec period = {.tv_sec = PERIOD_S};
    struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    if (ppoll(&keys, 1, &period, open) > 0) {
        ssize_t size = read(STDIN_FILENO, &key, 1);
        if (size == 0 || (size < 0 && errno != EINTR && errno != EAGAIN) || key == 'q' ||
            key == 'Q') {
            is_over = 1;
        }
    }
    has_changed = 0;
}

/* Catch the signals that end the watch, and block them; OPEN is the mask without them. */
static void catch_signals(sigset_t *open) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    struct sigaction end = {.sa_handler = on_end};
    struct sigaction resize = {.sa_handler = on_resize};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < LD_COUNT(ends); i++) {
        sigaddset(&blocked, ends[i]);
        sigaction(ends[i], &end, NULL);
    }
    sigaddset(&blocked, SIGWINCH);
    sigaction(SIGWINCH, &resize, NULL);
    sigprocmask(SIG_BLOCK, &blocked, open);
    for (size_t i = 0; i < LD_COUNT(ends); i++) {
        sigdelset(open, ends[i]);
    }
    sigdelset(open, SIGWINCH);
}

/* Draw again and again. */
int ld_screen_watch(int (*draw)(void *arg), void *arg) {
    sigset_t open;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        ld_say_error("--watch needs a terminal; without one, call it again and again");
        return 2;
    }
    int status = draw_frame(draw, arg);
    if (status == 2) {
        return status;
    }
    catch_signals(&open);
    if (!take_terminal()) {
        ld_say_error("--watch: the terminal: %s", strerror(errno));
        return 1;
    }
    while (!is_over) {
        show_frame();
        wait_for_next(&open);
        if (!is_over) {
            draw_frame(draw, arg);
        }
    }
    give_back_terminal();
    ld_text_fini(&screen.frame);
    return 0;
}
