/* A script has three functions, the same for each shell, which give words: those that begin with @ stand for what
 * the shell finds itself. The rest of it is the shell's own. */
#include "cli/completion.h"

#include <string.h>

#include "base/say.h"
#include "cli/rundir.h"
#include "posix/pidfile.h"

static const char bash_part[] =
    "_lunad() {\n"
    "  local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} words= token dir= i n=1\n"
    "  COMPREPLY=()\n"
    "  for ((i = 2; i < COMP_CWORD; i++)); do\n"
    "    [[ ${COMP_WORDS[i]} == --run-dir ]] && dir=${COMP_WORDS[i + 1]}\n"
    "    if words=$(_lunad_value \"$verb\" \"${COMP_WORDS[i]}\"); then\n"
    "      i=$((i + 1))\n"
    "    elif [[ ${COMP_WORDS[i]} != -* ]]; then\n"
    "      n=$((n + 1))\n"
    "    fi\n"
    "  done\n"
    "  if ((COMP_CWORD == 1)); then\n"
    "    words=$(_lunad_verbs)\n"
    "  elif ((i == COMP_CWORD)); then\n"
    "    if [[ $cur == -* ]]; then\n"
    "      words=$(_lunad_options \"$verb\")\n"
    "    else\n"
    "      words=$(_lunad_operand \"$verb\" $n)\n"
    "    fi\n"
    "  fi\n"
    "  for token in $words; do\n"
    "    case $token in\n"
    "      @file) compopt -o filenames 2>/dev/null; token=$(compgen -f -- \"$cur\") ;;\n"
    "      @dir) compopt -o filenames 2>/dev/null; token=$(compgen -d -- \"$cur\") ;;\n"
    "      @user) token=$(compgen -u -- \"$cur\") ;;\n"
    "      @name) token=$(compgen -W \"$(_lunad_names \"$dir\")\" -- \"$cur\") ;;\n"
    "      @signal) token=$(compgen -W \"$(compgen -A signal SIG | sed -n 's/^SIG//p')\" -- "
    "\"$cur\") "
    ";;\n"
    "      *) token=$(compgen -W \"$token\" -- \"$cur\") ;;\n"
    "    esac\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY+=($token)\n"
    "    unset IFS\n"
    "  done\n"
    "}\n"
    "complete -F _lunad lunad";

static const char zsh_part[] =
    "_lunad() {\n"
    "  local cur=${words[CURRENT]} verb=${words[2]} found= token dir= i n=1\n"
    "  for ((i = 3; i < CURRENT; i++)); do\n"
    "    [[ ${words[i]} == --run-dir ]] && dir=${words[i + 1]}\n"
    "    if found=$(_lunad_value \"$verb\" \"${words[i]}\"); then\n"
    "      i=$((i + 1))\n"
    "    elif [[ ${words[i]} != -* ]]; then\n"
    "      n=$((n + 1))\n"
    "    fi\n"
    "  done\n"
    "  if ((CURRENT == 2)); then\n"
    "    found=$(_lunad_verbs)\n"
    "  elif ((i == CURRENT)); then\n"
    "    if [[ $cur == -* ]]; then\n"
    "      found=$(_lunad_options \"$verb\")\n"
    "    else\n"
    "      found=$(_lunad_operand \"$verb\" $n)\n"
    "    fi\n"
    "  fi\n"
    "  for token in ${=found}; do\n"
    "    case $token in\n"
    "      @file) _files ;;\n"
    "      @dir) _files -/ ;;\n"
    "      @user) _users ;;\n"
    "      @name) compadd -- ${(f)\"$(_lunad_names \"$dir\")\"} ;;\n"
    "      @signal) compadd -- ${=\"$(kill -l)\"} ;;\n"
    "      *) compadd -- $token ;;\n"
    "    esac\n"
    "  done\n"
    "}\n"
    "if [[ ${funcstack[1]} == _lunad ]]; then _lunad \"$@\"; else compdef _lunad lunad; fi";

/* Add the words of a list with "|" between, but for those in capital letters. */
static void add_choices(struct ld_text *text, const char *list) {
    while (*list != '\0') {
        size_t size = strcspn(list, "|");
        if (list[0] < 'A' || list[0] > 'Z') {
            ld_text_puts(text, " ");
            ld_text_add(text, list, size);
        }
        list += size + (list[size] == '|');
    }
}

/* Whether a word of capital letters stands in what --help says. */
static bool says(const char *text, const char *word) {
    return strstr(text, word) != NULL;
}

/* Add what may be the value of an option. */
static void add_value(struct ld_text *text, const struct ld_option_form *option) {
    if (option->choices != NULL) {
        add_choices(text, option->choices);
        return;
    }
    add_choices(text, strchr(option->value, '|') != NULL ? option->value : "");
    ld_text_puts(text,
                 says(option->value, "FILE") || strcmp(option->value, "PATH") == 0 ? " @file" : "");
    ld_text_puts(text, strcmp(option->value, "DIR") == 0 ? " @dir" : "");
    ld_text_puts(text, says(option->value, "USER") ? " @user" : "");
}

/* Add the case of an option that has a value: verb:option. */
struct value_list {
    struct ld_text *text;
    const char *verb;
};

static void add_value_case(void *arg, const struct ld_option_form *option) {
    const struct value_list *list = arg;
    if (option->value == NULL) {
        return;
    }
    ld_text_puts(list->text, "    ");
    if (option->name != NULL) {
        ld_text_format(list->text, "%s:--%s", list->verb, option->name);
    }
    if (option->letter != 0) {
        ld_text_format(list->text, "%s%s:-%c", option->name != NULL ? "|" : "", list->verb,
                       option->letter);
    }
    ld_text_puts(list->text, ") echo \"");
    add_value(list->text, option);
    ld_text_puts(list->text, "\" ;;\n");
}

/* Add an option as a word. */
static void add_option(void *arg, const struct ld_option_form *option) {
    if (option->name != NULL) {
        ld_text_format(arg, " --%s", option->name);
    } else {
        ld_text_format(arg, " -%c", option->letter);
    }
}

/* Add the cases of the operands of a verb, as its help names them. */
static void add_operands(struct ld_text *text, const struct ld_verb *verb) {
    const char *words = verb->operands;
    if (says(words, "SCRIPT") || says(words, "PATH")) {
        ld_text_format(text, "    %s:*) echo \"@file\" ;;\n", verb->name);
    } else if (strcmp(verb->name, "new") != 0 && says(words, "NAME")) {
        ld_text_format(text, "    %s:%s) echo \"@name\" ;;\n", verb->name,
                       says(words, "...") ? "*" : "1");
    } else if (strchr(words, '|') != NULL) {
        ld_text_format(text, "    %s:1) echo \"", verb->name);
        add_choices(text, words);
        ld_text_puts(text, "\" ;;\n");
    }
    if (says(words, "SIGNAL")) {
        ld_text_format(text, "    %s:2) echo \"@signal\" ;;\n", verb->name);
    }
}

/* Add the functions that give words. */
static void add_functions(struct ld_text *text, const struct ld_verb *const *verbs, size_t count) {
    ld_text_puts(text, "_lunad_verbs() {\n  echo \"--help --version");
    for (size_t i = 0; i < count; i++) {
        ld_text_format(text, " %s", verbs[i]->name);
    }
    ld_text_puts(text, "\"\n}\n_lunad_options() {\n  case $1 in\n");
    for (size_t i = 0; i < count; i++) {
        ld_text_format(text, "    %s) echo \"", verbs[i]->name);
        ld_options_each(verbs[i]->options, add_option, text);
        ld_text_puts(text, "\" ;;\n");
    }
    ld_text_puts(text, "  esac\n}\n_lunad_value() {\n  case $1:$2 in\n");
    for (size_t i = 0; i < count; i++) {
        struct value_list list = {text, verbs[i]->name};
        ld_options_each(verbs[i]->options, add_value_case, &list);
    }
    ld_text_puts(text, "    *) return 1 ;;\n  esac\n}\n_lunad_operand() {\n  case $1:$2 in\n");
    for (size_t i = 0; i < count; i++) {
        add_operands(text, verbs[i]);
    }
    ld_text_puts(text, "  esac\n}\n_lunad_names() {\n"
                       "  lunad completion ${1:+--run-dir \"$1\"} names 2>/dev/null\n}\n");
}

/* Add the name of a daemon that runs. */
struct name_list {
    const struct ld_rundir *dir;
    struct ld_text *text;
};

static bool add_name(const char *name, void *arg) {
    const struct name_list *list = arg;
    struct ld_holder holder;
    if (ld_pidfile_inspect(&holder, list->dir->fd, name) == 0 &&
        (holder.pid > 0 || holder.waiting)) {
        ld_text_format(list->text, "%s%s", ld_text_is_empty(list->text) ? "" : "\n", name);
    }
    return true;
}

/* Add the names of what runs; 0 or an exit status after complaining. */
static int add_names(struct ld_text *text, const struct ld_call *call) {
    struct ld_rundir dir;
    struct name_list list = {&dir, text};
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0 && dir.fd >= 0) {
        ld_rundir_each(&dir, add_name, &list);
    }
    ld_rundir_close(&dir);
    return status;
}

/* Print. */
int ld_completion_print(const struct ld_call *call, const struct ld_verb *const *verbs,
                        size_t count) {
    const char *shell = call->argv[call->operand];
    struct ld_text text = {0};
    int status = 0;
    if (strcmp(shell, "names") == 0) {
        status = add_names(&text, call);
    } else if (strcmp(shell, "bash") == 0) {
        add_functions(&text, verbs, count);
        ld_text_puts(&text, bash_part);
    } else if (strcmp(shell, "zsh") == 0) {
        ld_text_puts(&text, "#compdef lunad\n");
        add_functions(&text, verbs, count);
        ld_text_puts(&text, zsh_part);
    } else {
        ld_say_error("completion: \"%s\" is not one of bash|zsh", shell);
        status = 2;
    }
    if (status == 0 && !ld_text_is_empty(&text)) {
        ld_say_text(&text);
    }
    ld_text_fini(&text);
    return status;
}
