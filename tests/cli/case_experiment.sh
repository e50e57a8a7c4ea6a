# The queue of experiment when things go wrong: a missing model, a child and a runner that are killed, a full disk, a changed file, two runners;
# and its wider grids: training data for each task, lists of files, options of plug.
. "$CLI_TEST_DIR/train_setup.sh"
tasks=$CLI_TEST_DIR/../../examples/tasks
cp "$tasks/tickets.yaml" "$tasks/tickets.test.jsonl" "$tasks/tickets.train.jsonl" .
cp secret-notes.txt more-notes.txt
cat >runs.yaml <<'END'
title: Two measures, each with its own data
models: [base, nowhere]
splits: 1-1
emulators: "layerdrop:keep=2"
rates: 1e-2
train:
  tickets.yaml: tickets.train.jsonl
  blocks: [secret-notes.txt, more-notes.txt]
valid: {blocks: held-out-notes.txt}
tasks: tickets.yaml
blocks: held-out-notes.txt
split: {threads: 1}
training: {steps: 3, block: 32, threads: 1, batch-tokens: 64}
plug: {dtype: bf16}
eval: {block: 32, limit: 4, threads: 1}
full: no
END
status_of() { sed -n '/"name": "'"$1"'",/,/"status"/s/.*"status": "\(.*\)",*/\1/p' "$2/state.json"; }
ok() { "$OFFSITE" experiment "$@" --quiet >table 2>err || die "experiment $*: exit code $?: $(cat err)"; }

# A dry run prints the commands and says what they read that is not there.
dry() { # FILE DIR CODE
    code=0
    "$OFFSITE" experiment "$1" -o "$2" --dry-run --quiet >out 2>err || code=$?
    [ "$code" = "$3" ] || die "dry run of $1: exit code $code: $(cat err)"
}
dry runs.yaml runs 1
[ "$(sed -n 1p err)" = 'missing: nowhere, for m1.zero_shot.tasks' ] && grep -q '^offsite: runs.yaml: 1 path is missing: ' err && [ "$(wc -l <err)" = 2 ] || die "$(cat err)"
grep -q '^m0.1-1.e0.p0.t0.lr1e-2.seed1.tune: .* --train=tickets.train.jsonl --task=tickets.yaml --lr' out || die "$(cat out)"
grep -q '^m0.1-1.e0.p0.t1.lr1e-2.seed1.tune: .* --train=secret-notes.txt --train=more-notes.txt --valid=held-out-notes.txt --lr' out || die "$(cat out)"
grep -q 'plug base .* --dtype=bf16 ' out || die "$(cat out)"

# The missing model's commands fail or are left out; the others go on, each measured by what it learnt alone.
code=0
"$OFFSITE" experiment runs.yaml -o runs --quiet >table 2>err || code=$?
[ "$code" = 1 ] && grep -q '3 steps failed and 10 steps that need one of them were left out' err || die "$code: $(cat err)"
grep -q 'm1.zero_shot.tasks failed: .*nowhere' err || die "$(cat err)"
grep -q '^tickets acc: ' table && grep -q '^perplexity: ' table || die "$(cat table)"
[ ! -e runs/steps/m0.1-1.e0.p0.t0.lr1e-2.seed1.tuned.blocks.json ] && [ ! -e runs/steps/m0.1-1.e0.p0.t1.lr1e-2.seed1.tuned.tasks.json ] || die "measured by another's data"
sed 's/, nowhere\]/]/' runs.yaml >sound.yaml
ok sound.yaml -o runs

dry sound.yaml runs 0
[ ! -s err ] || die "$(cat err)"
sed -e 's/secret-notes.txt, more-notes.txt/gone.txt, '"'more-*.txt', 'lost-*'"'/; s/tickets.train.jsonl/lost.jsonl/; s/valid:.*/valid: {blocks: held.txt}/' sound.yaml >lost.yaml
dry lost.yaml none 1
for path in gone.txt 'lost-\*' lost.jsonl held.txt; do grep -q "^missing: $path, for m0" err || die "$path: $(cat err)"; done
grep -q '^offsite: lost.yaml: 4 paths are missing' err && [ "$(wc -l <err)" = 5 ] && [ "$(wc -l <out)" -gt 5 ] || die "$(cat err)"
mkdir rows && : >rows/arc_easy.test.jsonl
printf 'models: base\ntrain: secret-notes.txt\ntasks: [arc_easy, piqa]\ndata: rows\n' >rows.yaml
dry rows.yaml none 1
grep -q '^missing: rows has no rows of piqa, for ' err && [ "$(wc -l <err)" = 2 ] || die "$(cat err)"

# What is measured is printed as it will run: an adapter beside its model, where the tuning method leaves one.
cat >methods.yaml <<'END'
models: base
splits: 1-1
emulators: "layerdrop:keep=2"
peft: [full, bitfit, "lora:r=2"]
rates: 1e-2
train: secret-notes.txt
blocks: held-out-notes.txt
training: {steps: 2, block: 32, threads: 1}
eval: {block: 32, limit: 2, threads: 1}
END
dry methods.yaml methods 0
sort out >said
ok methods.yaml -o methods
# What ran, as the page tells it from the queue's own record.
run report methods -o methods.html
grep -o 'offsite [a-z]* [^<]*' methods.html | grep -e '--' | sort -u >did
sed 's/^[^ ]*: //' said | sort -u >lines
cmp lines did || die "said and done differ: $(diff lines did)"
grep -q 'p2.lr1e-2.seed1.plug_in.blocks: offsite eval base --adapter methods/work/' said && grep -q 'full.p1.lr1e-2.seed1.blocks: offsite eval base --adapter ' said || die "$(cat said)"
grep -q 'p1.lr1e-2.seed1.plug_in.blocks: offsite eval methods/work/' said || die "$(cat said)"
(cat methods.yaml; echo 'plug: {merge: yes}') | sed 's/bitfit/"lora:r=4"/; s/full, //' >merged.yaml
dry merged.yaml none 0
grep -q 'plug_in.blocks: offsite eval none/work/' out && ! grep 'plug_in' out | grep -q -- --adapter || die "$(cat out)"

# Nothing changed: nothing runs. A file's contents change: what read it runs again, and what needs that; nothing else.
kept=$(ls -l --full-time runs/steps/*.json)
ok sound.yaml -o runs
[ "$kept" = "$(ls -l --full-time runs/steps/*.json)" ] || die "steps ran again"
cp -p runs/steps/m0.zero_shot.tasks.json runs/steps/m0.1-1.e0.p0.t1.lr1e-2.seed1.tune.json .
sed -i 's/"refund"/"billing"/; 1s/[a-z] /e /' tickets.train.jsonl
"$OFFSITE" experiment sound.yaml -o runs >table 2>err || die "$(cat err)"
grep -q 'm0.1-1.e0.p0.t0.lr1e-2.seed1.tune runs again: tickets.train.jsonl has changed' err || die "$(cat err)"
[ "$(grep -c '^\[' err)" = 6 ] || die "not the zero-shot, emulator, tune, tuned, plug and plug-in of the task: $(cat err)"
[ -z "$(find m0.1-1.e0.p0.t1.lr1e-2.seed1.tune.json -not -newer runs/steps/m0.1-1.e0.p0.t1.lr1e-2.seed1.tune.json -a -newer runs/steps/m0.1-1.e0.p0.t1.lr1e-2.seed1.tune.json)" ] ||
    die "the text's tuning ran again"

# A killed child is a failed step; a killed runner takes its child with it, and the next one ends the queue.
sed 's/steps: 3,/steps: 3000,/; s/full: no/full: no/' sound.yaml >long.yaml
wait_for() { # a file with something in it
    for i in $(seq 200); do [ -s "$1" ] && return; sleep 0.05; done
    die "$1 did not come: $(cat err)"
}
"$OFFSITE" experiment long.yaml -o long --quiet >table 2>err & runner=$!
wait_for long/steps/m0.1-1.e0.p0.t0.lr1e-2.seed1.tune.jsonl
[ "$(status_of m0.1-1.e0.p0.t0.lr1e-2.seed1.tune long)" = running ] || die "the queue does not say what runs"
fails 3 'another experiment is at work in long' experiment long.yaml -o long
child=$(ps -o pid= --ppid $runner | tr -d ' ')
kill -9 "$child"
wait_for long/steps/m0.1-1.e0.p0.t1.lr1e-2.seed1.tune.jsonl
grep -q 't0.lr1e-2.seed1.tune failed: ended by signal 9' err || die "$(cat err)"
child=$(ps -o pid= --ppid $runner | tr -d ' ')
kill -9 $runner
wait $runner 2>/dev/null || :
for i in $(seq 100); do kill -0 "$child" 2>/dev/null || break; sleep 0.05; done
! kill -0 "$child" 2>/dev/null || die "the step outlived its runner"
sed 's/steps: 3000/steps: 5/' long.yaml >short.yaml
ok short.yaml -o long
! grep -q '"status": "[^d]' long/state.json || die "$(grep '"status"' long/state.json)"

# A runner that is asked to stop asks its step, which saves what it has trained, and goes on from there.
rm -rf asked
"$OFFSITE" experiment long.yaml -o asked >table 2>err & runner=$!
wait_for asked/steps/m0.1-1.e0.p0.t0.lr1e-2.seed1.tune.jsonl
kill -TERM $runner
code=0
wait $runner || code=$?
[ "$code" = 1 ] && grep -q '^stopping: the step at work is told to' err && grep -q '^offsite: interrupted at step m0.1-1.e0.p0.t0.lr1e-2.seed1.tune' err ||
    die "exit code $code: $(cat err)"
[ -f asked/work/m0.1-1.e0.p0.t0.lr1e-2.seed1.tune/checkpoint.safetensors ] || die "the step did not save"
[ "$(status_of m0.1-1.e0.p0.t0.lr1e-2.seed1.tune asked)" = waiting ] || die "the queue does not say that it goes on"

# No room for the offer: that step fails, and what needs it is left out; with room again the queue ends.
code=0
(ulimit -f 100 && "$OFFSITE" experiment sound.yaml -o full --quiet >table 2>err) || code=$?
[ "$code" = 1 ] && grep -q 'm0.1-1.e0.split failed' err || die "$code: $(cat err)"
[ "$(status_of m0.zero_shot.tasks full)" = done ] || die "$(cat full/state.json)"
ok sound.yaml -o full

# Pictures: accuracy of a classifier, with the emulator distilled and measured on pictures without labels.
cat >config/config.json <<'END'
{"model_type": "vit", "num_hidden_layers": 6, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 4,
 "id2label": {"0": "ash", "1": "birch", "2": "cedar", "3": "date"}, "label2id": {"ash": 0, "birch": 1, "cedar": 2, "date": 3}}
END
"$MAKE_PICTURES" four.safetensors 64 4 16 1
"$MAKE_PICTURES" plain.safetensors 60 3 16 5 nolabels
run pretrain config -o vit --train four.safetensors --batch 16 --steps 20 --lr 3e-3
cat >vit.yaml <<'END'
models: vit
splits: 1-1
emulators: "layerdrop:keep=2|distill:steps=2,batch=8"
rates: 1e-3
train: four.safetensors
images: four.safetensors
measure-emulator-on: plain.safetensors
training: {steps: 2, batch: 16, threads: 1}
END
ok vit.yaml -o vit.runs
grep -q '^accuracy: It' table || die "$(cat table)"
run report vit.runs --json
grep -q '"measure": "accuracy", "higher_is_better": true, "chosen": true, "documents": 64' out && grep -q '"stderr": 0.0' out || die "$(cat out)"

# Classes that the model does not know: without `probe` nothing can be said of zero-shot; with it a head is trained first.
good=$CLI_TEST_DIR/../data/image
mkdir -p photos/elm photos/fir
cp "$good/rgb.jpg" "$good/cmyk.jpg" "$good/rgb-16.png" photos/elm
cp "$good/grey-16.png" "$good/rgba.png" "$good/progressive.jpg" photos/fir
sed -e 's/four.safetensors/photos/' -e 's/batch: 16/batch: 3/' vit.yaml >unknown.yaml
code=0
"$OFFSITE" experiment unknown.yaml -o unknown.runs --quiet >table 2>err || code=$?
[ "$code" = 1 ] && grep -q 'm0.zero_shot.images failed: .*class' err || die "$code: $(cat err)"
(cat unknown.yaml; echo 'probe: 1e-3') >probe.yaml
dry probe.yaml probe.runs 0
grep -q '^m0.zero_shot.probe.finetune: .*finetune vit --train=photos --lr=1e-3 --seed=1 --peft=head' out || die "$(cat out)"
grep -q '^m0.1-1.e0.emulator.images: .*eval probe.runs/work/m0.1-1.e0.split --adapter=probe.runs/work/m0.1-1.e0.emulator.probe.finetune' out || die "$(cat out)"
grep -q '^m0.1-1.e0.p0.lr1e-3.seed1.plug_in.images: .*--adapter' out && die "$(cat out)"
ok probe.yaml -o probe.runs
grep -q '^zero-shot and emulator are linear probes' table || die "$(cat table)"
run report probe.runs --json
[ "$(grep -c '"zero_shot": {"mean"' out)" = 1 ] && grep -q '"emulator": {"mean"' out || die "$(cat out)"
run report probe.runs --data-owner
grep -q 'linear probes' out || die "$(cat out)"
run report vit.runs
grep -q 'linear probes' out && die "$(cat out)"
run report probe.runs -o probe.html
# Speeds of pictures are told in pictures: 17 rows of a transformer each, of 16 patches and the class token. Of text in tokens.
tuned=probe.runs/steps/m0.1-1.e0.p0.lr1e-3.seed1.tune.jsonl
speeds=$(sed -n 's/.*"tokens_per_second": \([0-9.e+]*\), "pictures_per_second": \([0-9.e+]*\),.*/\1 \2/p' "$tuned")
[ "$(echo "$speeds" | wc -l)" = 2 ] || die "$(cat "$tuned")"
echo "$speeds" | awk '{ if ($1 / $2 < 16.999 || $1 / $2 > 17.001) exit 1 }' || die "$speeds"
mean=$(echo "$speeds" | awk '{ sum += $2 } END { printf "%.3g", sum / 2 }')
grep -q '<th [^>]*>pictures/s' probe.html && ! grep -q 'tokens/s' probe.html || die "$(grep -o '<th[^/]*/s' probe.html)"
run report probe.runs
grep -q ' pictures/s ' out && ! grep -q 'tokens/s' out && grep -qF " $mean " out || die "$mean: $(cat out)"
run report runs
grep -q ' tokens/s ' out && ! grep -q 'pictures/s' out || die "$(cat out)"
grep -q 'zero-shot and emulator are linear probes' probe.html || die "the page does not say that zero-shot is a probe"
grep -q 'data:image' probe.html && die "the owner's page holds a picture"


# The paper's tables, as files: each is a sound grid, whose command lines the commands take.
for file in "$CLI_TEST_DIR"/../../examples/experiments/*.yaml; do
    dry "$file" none 1
    ! grep -v '^missing: \|^offsite: .* missing: ' err || die "$file: $(cat err)"
    [ "$(grep -c ': offsite plug ' out)" -ge 1 ] && [ ! -e none ] || die "$file: $(head -3 out)"
done
[ "$(ls "$CLI_TEST_DIR"/../../examples/experiments/table*.yaml | wc -l)" = 7 ] || die "a table of the paper is missing"

# Slips in what is new are told by their line.
bad() { printf '%s\n' "$2" >bad.yaml; fails 2 "$1" experiment bad.yaml -o none; [ ! -e none ] || die "$2: a folder was made"; }
bad 'bad.yaml:3: train: piqa is not measured' 'models: x
train:
  piqa: y
tasks: arc_easy'
bad 'train has no data for the task piqa' 'models: x
train: {arc_easy: y}
tasks: [arc_easy, piqa]'
bad 'train has no data for blocks' 'models: x
train: {arc_easy: y}
tasks: arc_easy
blocks: z'
bad 'valid: train has no piqa' 'models: x
train: {arc_easy: y}
valid: {piqa: z}
tasks: arc_easy'
bad 'renders its own rows' 'models: x
train: {arc_easy: y}
training: {task: piqa}
tasks: arc_easy'
bad 'probe: fast is no learning rate' 'models: x
train: y
images: z
probe: fast'
bad 'no images are measured: leave it out' 'models: x
train: y
blocks: z
probe: 1e-3'
bad 'train is an empty mapping' 'models: x
train: {}
tasks: arc_easy'
code=0
sed 's/steps: 3,/step: 3,/' runs.yaml >bad.yaml
fails 2 'the command m0.1-1.e0.p0.t0.lr1e-2.seed1.tune: tune: unknown option .--step' experiment bad.yaml -o none
bad 'plug: output is set by' 'models: x
plug: {output: z}'
