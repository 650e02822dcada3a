#include "cli/flame.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MOST 200

#define WIDTH    1200
#define MARGIN   10
#define ROW      18
#define HEAD     64
#define TOO_THIN 0.1 /* pixels: not drawn */

/* A frame: all stacks that begin alike. */
struct frame {
    char *name;
    uint64_t count;
    struct frame *first; /* of those that it has called */
    struct frame *next;
};

struct ld_flame {
    struct frame root;
    int depth;
};

/* Make one. */
struct ld_flame *ld_flame_new(void) {
    return calloc(1, sizeof(struct ld_flame));
}

/* Free all frames below one. There are at most DEPTH_MOST levels. */
static void free_below(struct frame *frame) { /* NOLINT(misc-no-recursion) */
    while (frame->first != NULL) {
        struct frame *child = frame->first;
        frame->first = child->next;
        free_below(child);
        free(child->name);
        free(child);
    }
}

/* Free one. */
void ld_flame_free(struct ld_flame *flame) {
    if (flame != NULL) {
        free_below(&flame->root);
        free(flame);
    }
}

/* Find or make the frame that another has called; they are in the order of their names. */
static struct frame *find(struct frame *parent, const char *name, size_t size) {
    struct frame **at = &parent->first;
    int order = 1;
    while (*at != NULL && order > 0) {
        order = strncmp(name, (*at)->name, size);
        order = order == 0 && (*at)->name[size] != '\0' ? -1 : order;
        if (order > 0) {
            at = &(*at)->next;
        }
    }
    if (order == 0) {
        return *at;
    }
    struct frame *frame = calloc(1, sizeof *frame);
    char *copy = strndup(name, size);
    if (frame == NULL || copy == NULL) {
        free(frame);
        free(copy);
        return NULL;
    }
    frame->name = copy;
    frame->next = *at;
    *at = frame;
    return frame;
}

/* Add a stack. */
void ld_flame_add(struct ld_flame *flame, const char *stack, size_t size, uint64_t count) {
    struct frame *frame = &flame->root;
    int depth = 0;
    frame->count += count;
    for (size_t at = 0; at < size && depth < DEPTH_MOST;) {
        const char *end = memchr(stack + at, ';', size - at);
        size_t length = end != NULL ? (size_t)(end - stack) - at : size - at;
        frame = find(frame, stack + at, length);
        if (frame == NULL) {
            return;
        }
        frame->count += count;
        at += length + 1;
        depth++;
    }
    flame->depth = depth > flame->depth ? depth : flame->depth;
}

/* Add text that XML reads as text. What XML cannot have is shown as a question mark. */
static void add_xml(struct ld_text *svg, const char *text, size_t size) {
    struct ld_text clean = {0};
    ld_text_add_utf8(&clean, text, size);
    const char *bytes = ld_text_string(&clean);
    for (size_t i = 0; i < clean.size; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        bool is_last = byte == 0xEF && clean.size - i > 2 && (unsigned char)bytes[i + 1] == 0xBF &&
                       (unsigned char)bytes[i + 2] >= 0xBE; /* U+FFFE, U+FFFF */
        if (byte == '&' || byte == '<' || byte == '>' || byte == '"' || byte == '\'') {
            ld_text_format(svg, "&#%d;", byte);
        } else if (byte < ' ' || byte == 0x7F) {
            ld_text_putc(svg, '?');
        } else if (is_last) {
            ld_text_putc(svg, '?');
            i += 2;
        } else {
            ld_text_putc(svg, bytes[i]);
        }
    }
    ld_text_fini(&clean);
}

/* Add a colour for a name: warm for Lua, green for C, blue for what began it. */
static void add_colour(struct ld_text *svg, const char *name, int depth) {
    unsigned hash = 2166136261U;
    for (const char *at = name; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * 16777619U;
    }
    size_t size = strlen(name);
    bool is_c = size > 3 && strcmp(name + size - 3, "[C]") == 0;
    unsigned hue = depth == 0 ? 200 + hash % 30 : is_c ? 95 + hash % 40 : 5 + hash % 45;
    ld_text_format(svg, "hsl(%u,%u%%,%u%%)", hue, 60 + hash / 64 % 25, 62 + hash / 4096 % 12);
}

/* Where a frame is drawn. */
struct place {
    double x;
    double scale; /* pixels a sample */
    int depth;
    int rows;
    uint64_t total;
};

/* Draw a frame, and all that it has called. */
static void draw(struct ld_text *svg, const struct frame *frame,
                 struct place place) { /* NOLINT(misc-no-recursion) */
    double width = (double)frame->count * place.scale;
    int y = HEAD + (place.rows - place.depth) * ROW;
    if (width < TOO_THIN || place.depth > DEPTH_MOST) {
        return;
    }
    ld_text_format(svg, "<g class=\"f\" data-x=\"%.9g\" data-w=\"%.9g\" data-y=\"%d\"><title>",
                   (place.x - MARGIN) / (WIDTH - 2 * MARGIN), width / (WIDTH - 2 * MARGIN), y);
    add_xml(svg, frame->name, strlen(frame->name));
    ld_text_format(svg,
                   " (%llu samples, %.2f%%)</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" "
                   "height=\"%d\" fill=\"",
                   (unsigned long long)frame->count,
                   100.0 * (double)frame->count / (double)place.total, place.x, y, width, ROW - 1);
    add_colour(svg, frame->name, place.depth - 1);
    ld_text_format(svg, "\"/><text x=\"%.2f\" y=\"%d\">", place.x + 3, y + ROW - 5);
    size_t letters = width > 12 ? (size_t)((width - 6) / 6.7) : 0;
    size_t length = strlen(frame->name);
    if (length <= letters) {
        add_xml(svg, frame->name, length);
    } else if (letters > 3) {
        add_xml(svg, frame->name, ld_text_cut(frame->name, letters - 2));
        ld_text_puts(svg, "..");
    }
    ld_text_puts(svg, "</text></g>\n");
    place.depth++;
    for (const struct frame *at = frame->first; at != NULL; at = at->next) {
        draw(svg, at, place);
        place.x += (double)at->count * place.scale;
    }
}

/* What makes a click enlarge a frame, and the box search. */
static const char script[] =
    "<script><![CDATA[\n"
    "(function () {\n"
    "  'use strict';\n"
    "  var W = 1200, M = 10, frames = [].slice.call(document.querySelectorAll('g.f'));\n"
    "  var matched = document.getElementById('matched'), reset = "
    "document.getElementById('reset');\n"
    "  var search = document.getElementById('search'), term = '';\n"
    "  function name(g) { return g.querySelector('title').textContent; }\n"
    "  function num(g, key) { return parseFloat(g.getAttribute('data-' + key)); }\n"
    "  function fit(g, width) {\n"
    "    var text = name(g).replace(/ \\(\\d+ samples, [\\d.]+%\\)$/, ''), most = "
    "Math.floor((width - 6) / 6.7);\n"
    "    g.querySelector('text').textContent = width < 12 || most < 4 && text.length > most ? '' "
    ":\n"
    "      text.length <= most ? text : text.slice(0, most - 2) + '..';\n"
    "  }\n"
    "  function zoom(x, w, y) {\n"
    "    frames.forEach(function (g) {\n"
    "      var gx = num(g, 'x'), gw = num(g, 'w'), below = num(g, 'y') > y;\n"
    "      var left = (gx - x) / w, right = (gx + gw - x) / w;\n"
    "      var hidden = right <= 1e-9 || left >= 1 - 1e-9;\n"
    "      if (below && !hidden) { left = 0; right = 1; }\n"
    "      g.style.display = hidden ? 'none' : '';\n"
    "      g.style.opacity = below && y < 1e8 ? 0.5 : 1;\n"
    "      var px = M + left * (W - 2 * M), width = (right - left) * (W - 2 * M);\n"
    "      g.querySelector('rect').setAttribute('x', px);\n"
    "      g.querySelector('rect').setAttribute('width', Math.max(width, 0));\n"
    "      g.querySelector('text').setAttribute('x', px + 3);\n"
    "      fit(g, width);\n"
    "    });\n"
    "    reset.style.display = w < 1 ? '' : 'none';\n"
    "  }\n"
    "  function mark(wanted) {\n"
    "    var spans = [], sum = 0, end = -1, test;\n"
    "    term = wanted || '';\n"
    "    try { test = new RegExp(term, 'i'); } catch (e) {\n"
    "      test = { test: function (s) { return s.toLowerCase().indexOf(term.toLowerCase()) >= 0; "
    "} };\n"
    "    }\n"
    "    frames.forEach(function (g) {\n"
    "      var hit = term !== '' && test.test(name(g).replace(/ \\(\\d+ samples, [\\d.]+%\\)$/, "
    "''));\n"
    "      g.classList.toggle('hit', hit);\n"
    "      if (hit) { spans.push([num(g, 'x'), num(g, 'x') + num(g, 'w')]); }\n"
    "    });\n"
    "    spans.sort(function (a, b) { return a[0] - b[0] || b[1] - a[1]; });\n"
    "    spans.forEach(function (s) {\n"
    "      if (s[1] > end) { sum += s[1] - Math.max(s[0], end, 0); end = s[1]; }\n"
    "    });\n"
    "    matched.textContent = term === '' ? '' : 'matched: ' + (100 * sum).toFixed(1) + '%';\n"
    "    search.textContent = term === '' ? 'Search (Ctrl-F)' : 'Clear search';\n"
    "  }\n"
    "  function ask() {\n"
    "    var wanted = term !== '' ? '' : prompt('Search for (a regular expression):', '');\n"
    "    if (wanted !== null) { mark(wanted); }\n"
    "  }\n"
    "  frames.forEach(function (g) {\n"
    "    g.addEventListener('click', function () { zoom(num(g, 'x'), num(g, 'w'), num(g, 'y')); "
    "});\n"
    "  });\n"
    "  reset.addEventListener('click', function () { zoom(0, 1, 1e9); });\n"
    "  search.addEventListener('click', ask);\n"
    "  window.addEventListener('keydown', function (e) {\n"
    "    if ((e.ctrlKey || e.metaKey) && e.key === 'f') { e.preventDefault(); ask(); }\n"
    "    if (e.key === 'Escape') { mark(''); zoom(0, 1, 1e9); }\n"
    "  });\n"
    "  window.flame = { mark: mark, zoom: zoom };\n"
    "}());\n"
    "]]></script>\n";

/* Write it. */
void ld_flame_write(struct ld_flame *flame, const char *title, struct ld_text *svg) {
    int height = HEAD + (flame->depth + 2) * ROW;
    flame->root.name = "all";
    ld_text_format(
        svg,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
        "%d\">\n"
        "<style>svg{background:#fff}text{font:12px monospace;pointer-events:none}"
        ".f{cursor:pointer}.f:hover rect{stroke:#000}.f.hit rect{fill:#d3d}"
        ".b{pointer-events:auto;cursor:pointer;fill:#06c}.t{font:16px sans-serif}</style>\n"
        "<text class=\"t\" x=\"%d\" y=\"24\">",
        WIDTH, height, WIDTH, height, MARGIN);
    add_xml(svg, title, strlen(title));
    ld_text_format(svg,
                   "</text>\n<text id=\"reset\" class=\"b\" x=\"%d\" y=\"46\" "
                   "style=\"display:none\">Whole graph</text>\n"
                   "<text id=\"search\" class=\"b\" x=\"%d\" y=\"46\">Search (Ctrl-F)</text>\n"
                   "<text id=\"matched\" x=\"%d\" y=\"24\"></text>\n",
                   MARGIN, WIDTH - 130, WIDTH - 130);
    if (flame->root.count > 0) {
        double scale = (WIDTH - 2.0 * MARGIN) / (double)flame->root.count;
        draw(svg, &flame->root, (struct place){MARGIN, scale, 0, flame->depth, flame->root.count});
    }
    ld_text_puts(svg, script);
    ld_text_puts(svg, "</svg>\n");
    flame->root.name = NULL;
}
