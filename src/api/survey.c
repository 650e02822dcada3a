#include "api/survey.h"

#include <lauxlib.h>
#include <string.h>

#include "api/module.h"
#include "base/json.h"
#include "base/time.h"
#include "script/task.h"

#define LOOKS_MOST 16 /* between looks at the clock */

/* Begin a survey. */
void ld_api_survey_begin(struct ld_survey *survey, struct ld_script *script,
                         const struct ld_part *part, size_t wanted) {
    *survey = (struct ld_survey){.script = script,
                                 .part = part,
                                 .wanted = wanted,
                                 .items = json_array(),
                                 .groups = ld_api_groups_new(),
                                 .describe = {.script = script},
                                 .waiting = LUA_NOREF};
    survey->is_over = survey->items == NULL || survey->groups == NULL;
    ld_task_cursor_begin(&survey->task, script);
    ld_child_cursor_begin(&survey->child, script->setup->children);
}

/* Go on. What the names of functions were looked up in may have changed since the last slice. */
void ld_api_survey_run(struct ld_survey *survey, uint64_t until, uint64_t give_up, size_t most) {
    survey->until = until;
    survey->give_up = give_up;
    survey->items_most = most;
    survey->looks = 0;
    survey->describe.source = NULL;
    survey->describe.loads = 0;
    if (!survey->is_over &&
        ld_state_protect(survey->script, survey->part->survey, survey, NULL) < 0) {
        survey->is_over = true;
    }
}

/* Whether another one is to be looked at. */
bool ld_api_survey_goes_on(struct ld_survey *survey) {
    if (survey->is_over || json_array_size(survey->items) >= survey->items_most) {
        return false;
    }
    if (survey->looks++ % LOOKS_MOST > 0) {
        return true;
    }
    uint64_t now = ld_time_monotonic();
    survey->is_over = now >= survey->give_up && survey->wanted == 0;
    return !survey->is_over && (now < survey->until || survey->looks == 1);
}

/* Count one. */
struct ld_group *ld_api_survey_count(struct ld_survey *survey, lua_State *L,
                                     const struct ld_group_key *key) {
    char found[LD_DESCRIBE_NAME];
    struct ld_group *group = ld_api_groups_count(survey->groups, key);
    survey->counted++;
    if (L != NULL && group != NULL && group->is_new && !group->is_merged && key->name == NULL) {
        ld_api_describe_function(&survey->describe, L, found);
        group->shown = found[0] != '\0' ? strdup(found) : NULL;
    }
    return group;
}

/* Whether one is to be told. */
bool ld_api_survey_wants(const struct ld_survey *survey) {
    return survey->wanted > 0;
}

/* Tell one. */
void ld_api_survey_tell(struct ld_survey *survey, json_t *item) {
    survey->wanted--;
    json_array_append_new(survey->items, item);
}

/* The name to show. */
json_t *ld_api_survey_name(struct ld_survey *survey, lua_State *L, const struct ld_group *group,
                           const char *given) {
    char found[LD_DESCRIBE_NAME];
    if (given != NULL) {
        return ld_json_string(given);
    }
    if (group != NULL && !group->is_merged) {
        return ld_json_string(group->shown);
    }
    ld_api_describe_function(&survey->describe, L, found);
    return found[0] != '\0' ? ld_json_string(found) : json_null();
}

/* Report what was counted. */
json_t *ld_api_survey_report(const struct ld_survey *survey) {
    uint64_t others = 0;
    json_t *list = survey->groups != NULL ? ld_api_groups_report(survey->groups, &others) : NULL;
    return json_pack("{s:I, s:o, s:I}", "counted", (json_int_t)survey->counted, "places", list,
                     "others", (json_int_t)others);
}

/* End a survey. */
void ld_api_survey_end(struct ld_survey *survey) {
    if (survey->script == NULL) {
        return;
    }
    luaL_unref(survey->script->L, LUA_REGISTRYINDEX, survey->waiting);
    ld_task_cursor_end(&survey->task);
    ld_child_cursor_end(&survey->child);
    ld_api_groups_free(survey->groups);
    ld_api_describe_fini(&survey->describe);
    ld_text_fini(&survey->words);
    json_decref(survey->items);
    *survey = (struct ld_survey){.script = NULL};
}
