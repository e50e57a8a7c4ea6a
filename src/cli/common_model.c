#include "cli/common_model.h"

#include <string.h>

#include "protocol/manifest.h"

ot_status ot_common_open(const ot_args *args, ot_common_model *out, ot_error *err) {
    OT_TRY(ot_offer_check_files(ot_args_operand(args, "MODEL"), err));
    OT_TRY(ot_model_open(ot_args_operand(args, "MODEL"), OT_F32, &out->model, err));
    const char *adapter = ot_args_str(args, "adapter");
    if (adapter == NULL) return OT_OK;
    ot_status status = ot_adapter_open(adapter, out->model, &out->adapter, err);
    if (status == OT_OK) {
        out->hooks = ot_adapter_hooks(&out->adapter);
    } else {
        ot_common_close(out);
    }
    return status;
}

void ot_common_close(ot_common_model *c) {
    ot_adapter_close(&c->adapter);
    ot_model_close(c->model);
    *c = (ot_common_model){0};
}

ot_status ot_common_backend(const ot_args *args, const ot_backend **backend, ot_dtype *compute, ot_error *err) {
    const char *name = ot_args_str(args, "backend");
    *compute = strcmp(ot_args_str(args, "dtype"), "bf16") == 0 ? OT_BF16 : OT_F32;
    *backend = NULL;
    for (const ot_backend *const *b = ot_backends; *b != NULL; b++) {
        if (strcmp((*b)->name, name) == 0) *backend = *b;
    }
    if (*backend == NULL) return ot_args_fail(args, err, "--backend: '%s' is not built into this binary", name);
    if (!(*backend)->available()) return ot_fail(err, OT_ERR_UNSUPPORTED, "the backend %s cannot run on this machine", name);
    if (!(*backend)->supports(*compute)) {
        return ot_fail(err, OT_ERR_UNSUPPORTED, "the backend %s has no %s arithmetic", name, *compute == OT_BF16 ? "bf16" : "f32");
    }
    return OT_OK;
}
