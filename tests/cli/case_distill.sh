# Distillation from outside: the log's losses, what changes and what does not, a ledger of its own, stopping and going on, plug, refusals.
. "$CLI_TEST_DIR/train_setup.sh"

set -- distill offer --teacher base --train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --steps 60 --lr 3e-3
run "$@" -o whole --log whole.jsonl

# loss = 1 LM + 30 KD on every line, and KD falls.
awk -F'[:,}]' '/"loss_kd"/ {
    for (i = 1; i < NF; i++) { if ($i ~ /"loss"/) t = $(i + 1); if ($i ~ /"loss_lm"/) l = $(i + 1); if ($i ~ /"loss_kd"/) k = $(i + 1) }
    d = t - l - 30 * k; if (d > 1e-5 || d < -1e-5) { print "line " NR ": " $0; exit 1 }
    if (n++ == 0) first = k; last = k
} END { if (n != 60 || last >= 0.5 * first) { print n " lines, distance from " first " to " last; exit 1 } }' whole.jsonl || die "the log"

# Only the emulator's blocks differ; it is an offer of its own, with a ledger that has the same stack and a longer recipe.
run verify whole
[ "$(ls whole)" = "$(ls offer)" ] || die "files: $(ls whole)"
cmp -s offer/model.safetensors whole/model.safetensors && die "nothing was learned"
cmp -s offer/manifest.json whole/manifest.json && die "the manifest is the old one"
id() { sed -n 's/.*"offer_id": *"\([0-9a-f]*\)".*/\1/p' "$1"; }
sums() { tr -d ' \n' <"$1/manifest.json" | sed 's/{"name"/\n&/g' | sed -n 's/.*"name":"\([^"]*\)".*"sha256":"\([^"]*\)".*/\1 \2/p' | sort; }
[ "$(id whole/manifest.json)" = "$(id whole.owner.json)" ] && [ "$(id whole/manifest.json)" != "$(id offer/manifest.json)" ] || die "the ids"
[ "$(sums offer | wc -l)" -gt 40 ] || die "the manifest of the offer: $(sums offer | wc -l) tensors"
sums offer >a && sums whole >b
changed=$(diff a b | sed -n 's/^> \([^ ]*\) .*/\1/p')
[ -n "$changed" ] && [ -z "$(echo "$changed" | grep -v '^transformer\.h\.[12]\.' || :)" ] || die "changed: $changed"
grep -q 'layerdrop:keep=2|distill:steps=60' whole.owner.json && grep -q '"distilled"' whole.owner.json || die "$(cat whole.owner.json)"
for word in Zephyrine 48213 secret-notes "$(pwd)"; do ! grep -aFq -- "$word" whole/* whole.owner.json || die "the offer holds '$word'"; done

# Stopped and gone on with, more than once: the same bytes, the same log.
"$OFFSITE" "$@" -o stopped --log stopped.jsonl --save-every 7 --quiet >out 2>err </dev/null &
pid=$!
polls=0
while kill -0 $pid 2>/dev/null && [ "$(lines stopped.jsonl)" -lt 9 ] && [ $polls -lt 3000 ]; do
    polls=$((polls + 1))
    sleep 0.005
done
kill -KILL $pid 2>/dev/null || :
wait $pid 2>/dev/null || :
fails 3 'holds an unfinished run: go on with --resume' "$@" -o stopped
fails 3 'other settings, data or model' "$@" -o stopped --resume --kd-weight 10
run "$@" -o stopped --resume --log stopped.jsonl
grep -q 'steps, [0-9]* of them in ' out || die "the summary does not say how many steps the time is of: $(cat out)"
diff -r whole stopped && diff whole.owner.json stopped.owner.json || die "the resumed run differs"
for log in whole stopped; do sed 's/, "tokens_per_second.*bytes": [0-9]*//' $log.jsonl >$log.cut; done
diff whole.cut stopped.cut || die "the logs differ"
run "$@" -o stopped --resume
diff -r whole stopped

# The owner of the data tunes it, and what comes back plugs into the whole model: found by id, or by name, never by the other offer's ledger.
run tune whole --train held-out-notes.txt --block 32 --steps 4 -o return
run plug base return -o plugged
fails 3 'the ledger is of offer' plug base return -o other --ledger offer.owner.json
mkdir elsewhere && mv whole.owner.json elsewhere/ && rm stopped.owner.json # the same ledger
fails 3 'no owner.s ledger' plug base return -o other
run plug base return -o other --ledger elsewhere/whole.owner.json
diff -r plugged other
mv elsewhere/whole.owner.json .

# A second distillation goes on from the first: the recipe grows.
run distill whole --teacher base --train secret-notes.txt --block 32 --steps 3 -o twice
grep -q '|distill:steps=60.*|distill:steps=3' twice.owner.json || die "$(cat twice.owner.json)"

# Without the language-model loss nothing above the emulator is run; the best is chosen by distance; bf16; accumulation.
run distill offer --teacher base --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 20 --lm-weight 0 --lr 3e-3 -o distance --log distance.jsonl
grep -q '"loss_kd"' distance.jsonl && ! grep -q '"loss_lm"' distance.jsonl || die "$(head -1 distance.jsonl)"
run distill offer --teacher base --train secret-notes.txt --block 32 --steps 5 --grad-accum 2 --dtype bf16 --recompute -o half

# What does not belong together is refused, before anything is made.
# Without a text: the teacher writes it, the same for the same seed, stopped and resumed too.
self="--teacher base --train self:700 --block 16 --steps 6 --seed 3"
run distill offer $self -o own --log own.jsonl
run distill offer $self -o own-again
cmp own/model.safetensors own-again/model.safetensors || die "the teacher wrote another text for the same seed"
run distill offer --teacher base --train self:700 --block 16 --steps 6 --seed 4 -o own-other
cmp -s own/model.safetensors own-other/model.safetensors && die "the seed changed nothing"
fails 2 'needs a number of tokens' distill offer --teacher base --train self:many --block 16 --steps 2 -o no
fails 2 'less than one block' distill offer --teacher base --train self:9 --block 16 --steps 2 -o no
fails 2 'stands alone' distill offer --teacher base --train self:700 --train secret-notes.txt --block 16 --steps 2 -o no

# As a step of split: the same bytes as split and distill one after the other.
run split base -o before --emulator layerdrop:keep=2 --bottom 1 --top 1
run distill before --teacher base --train self:700 --block 16 --steps 6 --seed 3 --lr 3e-3 -o apart
run split base -o piped --emulator 'layerdrop:keep=2|distill:steps=6,block=16,lr=3e-3,seed=3' --bottom 1 --top 1 --data self:700
cmp apart/model.safetensors piped/model.safetensors || die "the distill step is not offsite distill"
[ ! -e piped.undistilled ] && [ ! -e piped.undistilled.owner.json ] || die "the offer before distillation was left behind"
grep -q 'layerdrop:keep=2|distill:steps=6' piped.owner.json || die "$(cat piped.owner.json)"
run tune piped --train secret-notes.txt --block 16 --steps 2 -o piped-return
run plug base piped-return -o piped-tuned
fails 2 'must be the last step' split base -o no --emulator 'distill:steps=6|layerdrop:keep=2' --data self:700
fails 2 'needs --data' split base -o no --emulator 'distill:steps=6'
fails 3 'above --max-cpl' split base -o no --bottom 1 --top 1 --emulator 'layerdrop:keep=2|distill:steps=2,block=16' --data secret-notes.txt --block 16 --max-cpl 0.001
# Packed blocks learn and are packed again; shared ones learn together.
for recipe in 'quantize:bits=4,group=8|distill:steps=6,block=16,lr=3e-3' 'crash:keep=1|distill:steps=6,block=16,lr=3e-3' \
    'prune:heads=0.5|svd:ratio=0.8|distill:steps=6,block=16,lr=3e-3'; do
    rm -rf learnt learnt-return learnt-tuned
    run split base -o learnt --bottom 1 --top 1 --emulator "$recipe" --data secret-notes.txt --block 16 --force
    grep -q '"model_type": "offsite"' learnt/config.json || die "$recipe: it lost its form"
    grep -q '"fidelity"' learnt.owner.json || die "$recipe: not measured"
    run verify learnt
    run tune learnt --train secret-notes.txt --block 16 --steps 2 -o learnt-return
    run plug base learnt-return -o learnt-tuned
done
[ ! -e no ] && [ ! -e no.undistilled ] || die "something was left behind"

run pretrain config -o stranger --train secret-notes.txt --block 32 --steps 1 --seed 5
fails 3 'is not the model that the offer was split from' distill offer --teacher stranger --train secret-notes.txt --block 32 --steps 2 -o no
fails 2 'is no offer' distill base --teacher base --train secret-notes.txt --block 32 --steps 2 -o no
fails 2 'kd-weight' distill offer --teacher base --train secret-notes.txt --block 32 --steps 2 --kd-weight 0 -o no
fails 3 'is the ledger of offer' distill whole --teacher base --train secret-notes.txt --block 32 --steps 2 --ledger offer.owner.json -o no
fails 1 'nothing-here' distill offer --teacher nothing-here --train secret-notes.txt -o no
[ ! -e no ] || die "a refused run left a folder"
