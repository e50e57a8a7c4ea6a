# RESULT.run.yaml: beside the result, the effective config that makes the same bytes again; and what is in the way is left alone.
. "$CLI_TEST_DIR/train_setup.sh"

set -- tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --epochs 2 --lr 3e-3 --peft lora:r=2 --no-shuffle
run "$@" -o whole --log whole.jsonl --save-every 20
[ "$(ls whole | sort | tr '\n' ' ')" = 'README.md adapter_config.json adapter_model.safetensors manifest.json ' ] ||
    [ "$(ls whole | sort | tr '\n' ' ')" = 'adapter_config.json adapter_model.safetensors manifest.json ' ] || die "the return holds $(ls whole)"
for line in 'train: .secret-notes.txt.' 'lr: 3e-3' 'epochs: 2' 'shuffle: no' 'dtype: f32' 'clip: 1.0' 'warmup: [0-9]' 'steps: [0-9]' 'valid-every: [0-9]' 'select: best'; do
    grep -q "^$line" whole.run.yaml || die "whole.run.yaml has no '$line': $(cat whole.run.yaml)"
done
! grep -Eq '^(log|output|save-every|resume|force|quiet|threads)' whole.run.yaml || die "what only says how to run is stored"
run tune offer --config whole.run.yaml -o again
diff -r whole again || die "the config gives another return"
run tune offer --config again.run.yaml -o third/return/
diff -r whole third/return || die "the config of the config gives another return"
sed '1,3d' again.run.yaml >a
sed '1,3d' third/return.run.yaml | diff a - || die "the configs differ"

# Every training verb.
set -- --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 6
for verb in 'finetune base' 'pretrain config' 'distill offer --teacher base'; do
    rm -rf one two
    run $verb "$@" --lr-grid 1e-3,1e-5 -o one
    run ${verb% --teacher base} --config one.run.yaml -o two
    for file in one/*.safetensors; do cmp "$file" "two/${file#one/}" || die "$verb: the config gives another result"; done
done

# A run that stopped has one already; what is not ours stays.
run tune offer "$@" -o stopped
printf 'lr: 1\n' >mine.run.yaml
fails 3 'mine.run.yaml is in the way' tune offer "$@" -o mine
[ "$(cat mine.run.yaml)" = 'lr: 1' ] && [ ! -e mine ] || die "a file that is not ours was touched"

# Names that YAML or a comment could misread.
odd=$(printf 'a: b\n- "c" #')
cp secret-notes.txt "$odd"
run tune offer --train "$odd" --block 32 --steps 3 -o "$odd out"
run tune offer --config "$odd out.run.yaml" -o odd
diff -r "$odd out" odd || die "odd names: another return"

# A list without items is no value.
printf 'train: []\n' >empty.yaml
fails 2 'option --train is missing' tune offer --config empty.yaml -o none
