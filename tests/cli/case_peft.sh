# --init-adapter with an adapter folder that PEFT wrote: its values bit by bit, and refusals with the reason.
set -eu
rm -rf -- *
offsite=$OFFSITE
here=$CLI_TEST_DIR/..
models=$here/golden/data/models
work=.

fail() {
    echo "$*" >&2
    exit 1
}

refused() { # words, arguments
    words=$1
    shift
    status=0
    "$offsite" "$@" > "$work/out" 2> "$work/err" || status=$?
    [ $status -eq 3 ] || fail "status $status instead of 3: $*"
    grep -qF -- "$words" "$work/err" || fail "no \"$words\" in: $(cat "$work/err")"
}

# A step at rate zero: what comes out is what went in.
for family in gpt2 llama; do
    for method in prompt:tokens=4 ia3; do
        from=$here/data/peft/$family-${method%%:*}
        data=$from/expected.safetensors
        "$offsite" finetune "$models/$family" --train "$data" --peft $method --init-adapter "$from" --lr 0 --warmup 0 --steps 1 --quiet --threads 1 \
            -o "$work/$family-$method" > "$work/out" 2>&1 || fail "$(cat "$work/out")"
        "$offsite" forward "$models/$family" --input "$data" --adapter "$from" --threads 1 -o "$work/one" > "$work/out"
        "$offsite" forward "$models/$family" --input "$data" --adapter "$work/$family-$method" --threads 1 -o "$work/two" > "$work/out"
        cmp "$work/one" "$work/two" || fail "$family, $method: other values"
    done
done

prompt=$here/data/peft/gpt2-prompt
ia3=$here/data/peft/gpt2-ia3
data=$prompt/expected.safetensors
refused "is 4 by 16, but --peft prompt:tokens=3 has 3 by 16" finetune "$models/gpt2" --train "$data" --peft prompt:tokens=3 --init-adapter "$prompt" -o "$work/no"
refused "has 4 tensors, but --peft prompt:tokens=4 over this model trains 1" finetune "$models/gpt2" --train "$data" --peft prompt:tokens=4 --init-adapter "$ia3" -o "$work/no"
refused "names no linear" finetune "$models/llama" --train "$data" --peft ia3 --init-adapter "$ia3" -o "$work/no"
"$offsite" finetune "$models/gpt2" --train "$data" --peft lora:r=2,alpha=4 --steps 1 --quiet --threads 1 -o "$work/lora" > "$work/out" 2>&1 || fail "$(cat "$work/out")"
refused "by 2, but --peft lora:r=2,alpha=8 by 4: give its alpha" finetune "$models/gpt2" --train "$data" --peft lora:r=2,alpha=8 --init-adapter "$work/lora" -o "$work/no"

# Parameters of the model that an adapter folder replaces are first values too, by themselves and in a stack.
for method in bitfit 'lora:r=2,alpha=4|bitfit'; do
    from="$work/replaced-${#method}"
    "$offsite" finetune "$models/gpt2" --train "$data" --peft "$method" --lr 0.01 --warmup 0 --steps 2 --quiet --threads 1 -o "$from" > "$work/out" 2>&1 || fail "$(cat "$work/out")"
    "$offsite" finetune "$models/gpt2" --train "$data" --peft "$method" --init-adapter "$from" --lr 0 --warmup 0 --steps 1 --quiet --threads 1 -o "$from-again" > "$work/out" 2>&1 ||
        fail "$(cat "$work/out")"
    cmp "$from/adapter.safetensors" "$from-again/adapter.safetensors" || fail "$method: other values"
    "$offsite" forward "$models/gpt2" --input "$data" --threads 1 -o "$work/one" > "$work/out"
    "$offsite" forward "$models/gpt2" --input "$data" --adapter "$from" --threads 1 -o "$work/two" > "$work/out"
    ! cmp -s "$work/one" "$work/two" || fail "$method: nothing was trained"
done
refused "weight, which --peft bitfit:gains=no does not train" finetune "$models/gpt2" --train "$data" --peft bitfit:gains=no --init-adapter "$work/replaced-6" -o "$work/no"
refused "which --peft lora:r=2,alpha=4 does not train" finetune "$models/gpt2" --train "$data" --peft lora:r=2,alpha=4 --init-adapter "$work/replaced-23" -o "$work/no"
refused ", which --peft bitfit trains" finetune "$models/gpt2" --train "$data" --peft bitfit --init-adapter "$work/lora" -o "$work/no"

[ ! -e "$work/no" ] || fail "a refused run left its output"
