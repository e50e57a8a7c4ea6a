#include "eval/perplexity.h"

#include <math.h>

static ot_status one_block(ot_network *net, const ot_dataset *d, int64_t row, double *loss, ot_error *err) {
    double sum = 0;
    ot_network_clear(net);
    OT_TRY(ot_dataset_add_row(net, d, row, err));
    OT_TRY(ot_network_run(net, &(ot_run_options){0}, &sum, err));
    *loss = sum / (double)d->counted[row];
    return OT_OK;
}

ot_status ot_perplexity_run(const ot_model *m, const ot_dataset *data, const ot_perplexity_options *options, ot_perplexity *out, ot_error *err) {
    ot_network_options network = {
        .plan = {.backend = options->backend, .compute = options->compute, .max_rows = data->length, .max_targets = ot_dataset_most_targets(data)},
        .hooks = options->hooks,
        .outputs = OT_OUT_LOSS,
        .max_segments = ot_dataset_most_examples(data),
    };
    *out = (ot_perplexity){.tokens = data->tokens};
    ot_network *net = NULL;
    OT_TRY(ot_malloc(data->rows, 8, "block losses", (void **)&out->per_block, err));
    ot_status status = ot_network_new(m, &network, &net, err);
    double sum = 0;
    for (int64_t r = 0; status == OT_OK && r < data->rows; r++) {
        if (data->counted[r] == 0) continue;
        status = one_block(net, data, r, &out->per_block[out->blocks], err);
        if (status == OT_OK && !isfinite(out->per_block[out->blocks])) {
            status = ot_fail(err, OT_ERR_NUMERIC, "the loss of block %lld is %g: the model's weights are damaged or the dtype is too narrow", (long long)r,
                             out->per_block[out->blocks]);
        }
        if (status != OT_OK) break;
        sum += out->per_block[out->blocks++];
        if (options->observe != NULL) options->observe(options->context, r + 1, data->rows, sum / (double)out->blocks);
    }
    ot_network_free(net);
    if (status != OT_OK) {
        ot_free(out->per_block);
        out->per_block = NULL;
        return status;
    }
    out->loss = sum / (double)out->blocks;
    out->perplexity = exp(out->loss);
    return OT_OK;
}
