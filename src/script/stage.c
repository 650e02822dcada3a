/* The life of a generation:
 *
 *     event \ stage        MADE      STARTED    SERVICE    REPLACED   STOPPING   CLOSING
 *     gives control back   STARTED   –          –          –          –          –
 *     reload, start done   –         SERVICE    –          –          –          –
 *     the next one serves  –         –          REPLACED   –          –          –
 *     children are ended   –         STOPPING   STOPPING   STOPPING   –          –
 *     is to be closed      CLOSING   CLOSING    CLOSING    CLOSING    CLOSING    –
 *     nothing can call it  –         –          –          –          –          CLOSED
 *
 * A generation that is refused, or whose start fails, is closed from MADE or STARTED. A stop at
 * once leaves STOPPING out. CLOSED is freed, at once or after luv's last request. What can happen
 * in any stage is not a stage: the end of the chunk (script->chunk), lunad.ready (said_ready),
 * os.exit (exited), the end of the on_stop functions (on_stop.done). */
#include "script/stage.h"

#include "base/base.h"

#define TO(stage) (1U << (stage))

static const unsigned allowed[] = {
    [LD_STAGE_MADE] = TO(LD_STAGE_STARTED) | TO(LD_STAGE_CLOSING),
    [LD_STAGE_STARTED] = TO(LD_STAGE_SERVICE) | TO(LD_STAGE_STOPPING) | TO(LD_STAGE_CLOSING),
    [LD_STAGE_SERVICE] = TO(LD_STAGE_REPLACED) | TO(LD_STAGE_STOPPING) | TO(LD_STAGE_CLOSING),
    [LD_STAGE_REPLACED] = TO(LD_STAGE_STOPPING) | TO(LD_STAGE_CLOSING),
    [LD_STAGE_STOPPING] = TO(LD_STAGE_CLOSING),
    [LD_STAGE_CLOSING] = TO(LD_STAGE_CLOSED),
    [LD_STAGE_CLOSED] = 0,
};

/* Move to another stage. */
void ld_stage_move(enum ld_stage *stage, enum ld_stage to) {
    LD_ASSERT((allowed[*stage] & TO(to)) != 0);
    *stage = to;
}
