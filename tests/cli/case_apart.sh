# What is written is nothing that is read, not even with --force: models, offers, data and logs stay as they are.
. "$CLI_TEST_DIR/train_setup.sh"
run tune offer --train secret-notes.txt --block 32 --steps 1 -o return
ln -s base named
mkdir inner
cp secret-notes.txt inner/notes.txt
mkdir tasks
cp "$CLI_TEST_DIR/../../examples/tasks/tickets.yaml" "$CLI_TEST_DIR/../../examples/tasks/tickets.train.jsonl" tasks
printf 'seed: 3\n' >inner/run.yaml
left() { state . | grep -v '^\./\(out\|err\) \|^\. '; }
before=$(left)
steps="--train secret-notes.txt --block 32 --steps 1"

same='--output: .* is the .* itself, which is read: choose another name'
inside='--output: .* lies inside the .*, which is read: choose another place'
holds='--output: .* holds the .*, which is read: choose another place'
fails 2 "split: --output: base is the MODEL itself, which is read: choose another name" split base -o base --force
fails 2 "$same" split base -o named --force
fails 2 "$same" split named/ -o ./offer/../base/ --force
fails 2 "$inside" split base -o named/new/offer
fails 2 "$holds" split base -o . --force
fails 2 "tune: --output: offer is the OFFER itself, which is read: choose another name" tune offer $steps -o offer
fails 2 "$same" tune offer $steps -o offer --force
fails 2 "$same" tune offer $steps -o offer --resume
fails 2 "--output: inner holds the input of --train inner/notes.txt, which is read: choose another place" tune offer --train inner/notes.txt -o inner --force
fails 2 "--output: inner holds the input of --train inner/notes.txt, which is read: choose another place" tune offer --train 'inner/no*.txt' -o inner --force
fails 2 "--output: inner holds the input of --valid inner/notes.txt, which is read" tune offer $steps --valid inner/notes.txt -o inner --force
fails 2 "$same" tune offer $steps --peft lora --init-adapter return -o return --force
fails 2 "--log: .* is the input of --train itself" tune offer $steps -o other --log secret-notes.txt
fails 2 "$same" finetune base $steps -o base --force
fails 2 "$same" pretrain config $steps -o config --force
fails 2 "$same" distill offer --teacher base $steps -o offer --force
fails 2 "$same" distill offer --teacher base $steps -o base --force
fails 2 "$same" plug base return -o base --force
fails 2 "plug: --output: return is the RETURN itself" plug base return -o return --force
fails 2 "$same" export base -o base --force
fails 2 "$inside" export base -o base/model.safetensors --format gguf --force
fails 2 "$same" export base --adapter return -o return --force
fails 2 "$inside" forward base -i secret-notes.txt -o base/model.safetensors
fails 2 "$same" forward base -i secret-notes.txt -o secret-notes.txt
# A text that may be a name or a file is one when it is there; a task that is known by its name is not.
rows="--train tasks/tickets.train.jsonl --block 32 --steps 1"
fails 2 "tune: --output: tasks/tickets.yaml is the input of --task itself" tune offer $rows --task tasks/tickets.yaml -o tasks/tickets.yaml
fails 2 "--log: tasks/../tasks/tickets.yaml is the input of --task itself" tune offer $rows --task tasks/tickets.yaml -o other --log tasks/../tasks/tickets.yaml
fails 2 "--output: tasks holds the input of --t[a-z]* tasks/" finetune base $rows --task tasks/tickets.yaml -o tasks --force
fails 2 "--output: tasks/tickets.yaml is the input of --task itself" eval base --task piqa,tasks/tickets.yaml --data . -o tasks/tickets.yaml
fails 2 "--output: held-out-notes.txt is the input of --blocks itself" eval base --blocks held-out-notes.txt -o held-out-notes.txt
fails 2 "--output: inner holds the input of --config inner/run.yaml" tune offer $steps --config inner/run.yaml -o inner --force
[ "$before" = "$(left)" ] || die "something was changed"

# A queue's work makes way when it runs again: no model lies in it. What a report is made of may lie beside the report.
mkdir -p queue/work
cp -r base queue/work/base
cat >runs.yaml <<'END'
title: A model in the way
models: queue/work/base
splits: 1-1
emulators: "layerdrop:keep=2"
rates: 1e-2
train: {blocks: secret-notes.txt}
blocks: held-out-notes.txt
training: {steps: 1, block: 32}
END
fails 2 'the command .*holds the input of a step queue/work/base' experiment runs.yaml -o queue
[ -f queue/work/base/model.safetensors ] || die "the model is gone"
"$OFFSITE" eval base --blocks held-out-notes.txt --block 32 --limit 1 -o base --quiet >out 2>err || die "eval beside its model: $(cat err)"
