/* A walk over all that a script has of one kind, for the status: everything is counted by its place, and the first of
 * it, or all, is told one by one. It goes on in slices, between which things come and go: what is there all the time
 * is met once. */
#ifndef LD_API_SURVEY_H
#define LD_API_SURVEY_H

#include <jansson.h>
#include <lua.h>

#include "api/describe.h"
#include "api/groups.h"
#include "script/script.h"

struct ld_part;

struct ld_survey {
    struct ld_script *script; /* NULL: none is under way */
    const struct ld_part *part;
    size_t wanted;  /* how many are still to be told */
    json_t *items;  /* told in this slice, or before and not taken yet */
    size_t counted; /* met until now */
    size_t own;     /* met, and lunad's own: they are neither counted nor told */
    bool is_over;
    struct ld_groups *groups;
    struct ld_describe describe;
    struct ld_text words; /* scratch */

    /* For goes_on. */
    uint64_t until; /* ld_time_monotonic, at which the slice is over */
    uint64_t
        give_up; /* at which all that are wanted have still to be told, but no others counted */
    size_t items_most; /* in a slice */
    unsigned looks;

    /* Where it is: each part uses its own. */
    uint32_t at;
    struct ld_task_cursor task;
    struct ld_child_cursor child;
    int waiting; /* a reference to what walks over children that wait to be started again */
    bool is_waiting;
};

/* Begin a survey of what PART has, in which WANTED are told. Without memory it is over at once. */
void ld_api_survey_begin(struct ld_survey *survey, struct ld_script *script,
                         const struct ld_part *part, size_t wanted);

/* Go on until it is over or it is ld_time_monotonic UNTIL, or as many as MOST are told and not taken. From GIVE_UP on it is
 * over when what is wanted is told. */
void ld_api_survey_run(struct ld_survey *survey, uint64_t until, uint64_t give_up, size_t most);

/* Report how many were counted, and by place, the greatest groups first: a new reference, or NULL. */
json_t *ld_api_survey_report(const struct ld_survey *survey);

/* End it; one that was not begun, and is zeroed, may be ended too. */
void ld_api_survey_end(struct ld_survey *survey);

/* For parts: whether another one is to be looked at. */
bool ld_api_survey_goes_on(struct ld_survey *survey);

/* Count one, whose KEY is filled in; its group, NULL if it got none. Without a name in the key, a group has that of the
 * function at the top of L, if L is not NULL. */
struct ld_group *ld_api_survey_count(struct ld_survey *survey, lua_State *L,
                                     const struct ld_group_key *key);

/* Whether the one that was counted last is to be told; and tell it, as ITEM, which is taken over. */
bool ld_api_survey_wants(const struct ld_survey *survey);
void ld_api_survey_tell(struct ld_survey *survey, json_t *item);

/* The name to show of one that was counted in GROUP: the GIVEN one, or that of the function at the top of L. */
json_t *ld_api_survey_name(struct ld_survey *survey, lua_State *L, const struct ld_group *group,
                           const char *given);

#endif
