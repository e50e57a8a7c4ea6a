# experiment and report from outside: a grid end to end, a step that fails, resume, what the data owner may see, bad files.
. "$CLI_TEST_DIR/train_setup.sh"
cat >runs.yaml <<'END'
title: A tiny grid
models: base
splits: [1-1]
emulators: ["layerdrop:keep=2", "layerdrop:keep=99"]
rates: [1e-3, 1e-2]
seeds: [1, 2]
train: secret-notes.txt
blocks: held-out-notes.txt
measure-emulator-on: held-out-notes.txt
split: {block: 32, limit: 2}
training: {steps: 3, block: 32, threads: 1}
eval: {block: 32, limit: 4, threads: 1}
END
run experiment runs.yaml -o runs --dry-run
[ ! -e runs ] && grep -q '^m0.1-1.e0.split: offsite split base --bottom=1' out || die "dry run: $(cat out)"

# The second emulator cannot be made: it is recorded, what needs it is left out, the rest goes on.
code=0
"$OFFSITE" experiment runs.yaml -o runs --quiet >table 2>err || code=$?
[ "$code" = 1 ] || die "a failed step: exit code $code: $(cat err)"
grep -q '1 step failed and 17 steps that need one of them were left out: .*; the same command tries them again' err || die "$(cat err)"
grep -q 'm0.1-1.e1.split failed: .*keep' err || die "$(cat err)"
grep -q 'A tiny grid' table && grep -q '^model: base; split: 1-1; emulator: layerdrop:keep=2' table && grep -q '^\*  *0.0' table && grep -q 'failed: m0.1-1.e1.split' table || die "$(cat table)"
[ "$(grep -c '"status": "done"' runs/state.json)" = 27 ] || die "$(grep '"status"' runs/state.json | sort | uniq -c)"
! ls runs/work | grep -qE '(plug|finetune)$' || die "adapted models were left: $(ls runs/work)"

# Again: nothing that is done runs again; with a sound list it ends well.
sed 's/, "layerdrop:keep=99"//' runs.yaml >sound.yaml
before=$(cat runs/steps/m0.zero_shot.blocks.json; ls -l --full-time runs/steps/*.json)
run experiment sound.yaml -o runs --json
[ "$before" = "$(cat runs/steps/m0.zero_shot.blocks.json; ls -l --full-time runs/steps/*.json)" ] || die "steps ran again"
run report runs --json
grep -q '"chosen": true' out && grep -q '"full": {"mean": [0-9.]*, "spread": [0-9.e-]*, "seeds": 2, "stderr": null}' out && grep -q '"middle_exact": 0.5' out || die "$(cat out)"
grep -q '"tokens_per_second": [0-9]' out && grep -q '"return_bytes": [1-9]' out || die "no cost: $(cat out)"

# The chosen rate is the one with the best tuned emulator, whatever plug-in says.
run report runs --csv
awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 1 { value[$at["chosen"]] = $at["tuned"]; n++ } END { exit !(n == 2 && value[1] <= value[0]) }' out ||
    die "$(cat out)"
# Its zero-shot number is eval's own.
run eval base --blocks held-out-notes.txt --block 32 --limit 4 --threads 1 --json
cmp -s out runs/steps/m0.zero_shot.blocks.json || die "zero-shot is not what eval says"

# A killed queue goes on from its file: the lost steps run again and end the same.
cp runs/steps/m0.1-1.e0.p0.lr1e-2.seed2.plug_in.blocks.json kept.json
rm runs/steps/m0.1-1.e0.p0.lr1e-2.seed2.plug_in.blocks.json
run experiment sound.yaml -o runs
cmp kept.json runs/steps/m0.1-1.e0.p0.lr1e-2.seed2.plug_in.blocks.json || die "another result the second time"

# What the data owner may see.
for form in --json --csv --markdown --quiet; do
    "$OFFSITE" report runs --data-owner "$form" >out
    ! grep -qiE 'plug|"full":|full_|near|zero|cpl|exact|fidelity|conditions' out || die "--data-owner $form tells: $(cat out)"
    ! grep -q 'layerdrop\|base' out || die "--data-owner $form tells what the offer was made from: $(cat out)"
    grep -q "$(sed -n 's/.*"offer_id": "\(........\).*/\1/p' runs/steps/m0.1-1.e0.split.json)" out || die "$(cat out)"
done
# One page in one file: nothing from elsewhere, charts, and what the data owner may not know stays out of that party's.
run report runs -o page.html
grep -q '<h2>Did it work?</h2>' page.html && grep -q 'It worked in part: plug-in has\|It worked: plug-in has\|It seems to have worked' page.html || die "no verdict in the page"
[ "$(grep -c '<svg ' page.html)" = 4 ] || die "not the charts of scores, rates, tuning and full fine-tuning"
grep -q 'offsite tune .*--lr=1e-2 --seed=1' page.html && grep -q 'emulators: \[' page.html && grep -q 'offsite 0\.' page.html || die "how it was made is missing"
! grep -oE '[a-z]+://[^"<]*' page.html | grep -v '^http://www.w3.org/2000/svg$' || die "the page names an address"
run report runs --data-owner -o client.html
! grep -qiE 'plug|zero-shot|cpl|fidelity|conditions|layerdrop|base' client.html || die "the data owner's page tells: $(grep -iE 'plug|zero-shot|cpl|fidelity|layerdrop|base' client.html | head -3)"
grep -q 'Tuning was learnt: the emulator went from' client.html && [ "$(grep -c '<svg ' client.html)" = 3 ] || die "the data owner's page is empty"
fails 1 'no/such/page.html' report runs -o no/such/page.html
fails 2 'must end in .html' report runs -o page.pdf
fails 2 'writes a page' report runs -o page.html --json
fails 2 'who knows both sides' report runs --paper --data-owner

# Names from outside cannot become markup, nor reach the terminal as commands.
cp -r runs hostile
evil='<\/title><script>alert(1)<\/script>\\u001b[31m'
sed -i "s/\"title\": .*/\"title\": \"$evil\",/; s/\"model\": \"base\"/\"model\": \"$evil\"/; s/\"error\": \".*\"/\"error\": \"$evil\"/; s/\"machine\": .*/\"machine\": \"$evil\",/" hostile/state.json
run report hostile -o hostile.html
! grep -q '<script' hostile.html && [ "$(grep -c '&lt;script&gt;' hostile.html)" -ge 3 ] || die "markup went through"
run report hostile
! grep -q "$(printf '\033')" out || die "an escape sequence went through"
run report hostile --markdown
! grep -q '[^\\]<script' out || die "markup went through into Markdown: $(cat out)"

run report runs --paper
grep -q '^OT Plug-in  *[0-9.]*$' out && grep -q '^None of these models is one of the paper' out && grep -q '^OT  *[0-9.e+]*  *[0-9]*  *[0-9.]*  *[0-9.]*$' out || die "$(cat out)"
run report runs --markdown
grep -q '^| \\\* | 0.0' out && grep -q '^- \*\*perplexity\*\*: It ' out || die "$(cat out)"

# Files named for their role.
mkdir own
cp runs/steps/m0.zero_shot.blocks.json own/zero_shot.json
cp runs/steps/m0.1-1.e0.p0.lr1e-2.seed2.tuned.blocks.json own/tuned.json
cp kept.json own/plug_in.json
run report own --json
grep -q '"gains": true' out || die "$(cat out)"
# An offer with no byte of the model's file and three quarters of its values has given away three quarters: every form says so.
printf '{"layers": 4, "middle": 4, "middle_kept": 3, "middle_shipped_bit_exact": 0, "middle_values_same": 0.77, "cpl": 0.5}\n' >own/split.json
run report own --json
grep -q '"middle_exact": 0, "middle_same": 0.77[0-9]*, "middle_shipped": 0.77' out || die "$(cat out)"
run report own --csv
awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 2 { exit !($at["middle_exact"] == "0" && $at["middle_same"] == "0.77" && $at["middle_shipped"] == "0.77" && at["middle_shipped"] == NF) }' out ||
    die "$(cat out)"
run report own
grep -q 'middle shipped' out && grep -q ' 77 %' out && ! grep -q ' 0 %' out || die "$(cat out)"
run report own -o own.html
grep -q '>77 %<' own.html && grep -q 'bit by bit or the same to rounding, whichever is larger' own.html && ! grep -q '>0 %<' own.html || die "the page says less than was given away"
sed -i 's/, "middle_values_same": 0.77//; s/"middle_shipped_bit_exact": 0/"middle_shipped_bit_exact": 0.5/' own/split.json
run report own --json
grep -q '"middle_exact": 0.5, "middle_same": null, "middle_shipped": 0.5' out || die "an earlier version's split.json: $(cat out)"
fails 1 'no folder nowhere' report nowhere
mkdir empty broken
fails 1 'holds no results' report empty
echo '{"format": "offsite-experiment"}' >broken/state.json
fails 1 '"steps" is missing' report broken
echo '{"perplexity": "high"}' >empty/tuned.json
fails 1 'holds no score' report empty
fails 2 'ask for one at a time' report runs --json --csv

# Bad grids: one sentence with the line.
bad() { printf '%s\n' "$2" >bad.yaml; fails 2 "$1" experiment bad.yaml -o none; [ ! -e none ] || die "$2: a folder was made"; }
bad 'models is missing' 'train: x'
bad 'train is missing' 'models: x'
bad 'nothing is measured' 'models: x
train: y'
bad 'bad.yaml:2: no key emulator;' 'models: x
emulator: y'
bad 'bad.yaml:2: splits: 2x2 is not' 'models: x
splits: 2x2
train: y
blocks: z'
bad 'bad.yaml:2: rates: fast is no' 'models: x
rates: fast
train: y
blocks: z'
bad 'is set by the experiment' 'models: x
training: {output: y}'
bad 'twice' 'models: [x, x]'
bad 'is an empty list' 'models: []'

# How rows are rendered is the training's own business.
cat >task.yaml <<'END'
models: base
train: rows.jsonl
tasks: arc_easy
data: qa
training: {task: arc_easy, steps: 3}
END
mkdir qa && : >qa/arc_easy.test.jsonl && : >rows.jsonl
run experiment task.yaml -o none --dry-run
grep -q 'offsite tune .* --task=arc_easy --steps=3' out || die "$(cat out)"

# LoRA's baseline is LoRA in the whole model: no form calls it full fine-tuning.
cp -r runs lora
sed -i 's/"peft": "full"/"peft": "lora:r=2"/' lora/state.json
run report lora
! grep -qi 'full fine-tuning' out && grep -q 'whole-model tuning by lora:r=2' out && grep -q '^"full" is the whole model tuned by the same method' out || die "$(cat out)"
run report lora --markdown
! grep -qi 'full fine-tuning' out && grep -q '^"full" is the whole model tuned by the same method' out || die "$(cat out)"
run report lora -o lora.html
! grep -qi 'full fine-tuning' lora.html && grep -q '>whole-model tuning by lora:r=2<' lora.html && grep -q '&quot;full&quot; is the whole model tuned by the same method' lora.html ||
    die "$(grep -io '.\{60\}full fine-tuning' lora.html) $(grep -o '.\{30\}whole-model.\{30\}' lora.html)"
run report runs
! grep -q 'the same method' out || die "$(cat out)"

# Not finished: how near plug-in comes to full fine-tuning is not told before all of that is done; the page's badges are the table's columns.
cp -r runs partly
sed -i '/"name": "m0.full.p0.lr1e-2.seed2.blocks"/,/"status"/s/"done"/"waiting"/' partly/state.json
[ "$(grep -c '"status": "waiting"' partly/state.json)" = 1 ] || die "no such step: $(grep '"name": ".*full' partly/state.json)"
run report runs --json
! grep -q '"near_full": null' out && grep -q '"recovered": -*[0-9]' out || die "$(cat out)"
run report partly --json
[ "$(grep -o '"near_full": null' out | wc -l)" = 2 ] && [ "$(grep -o '"recovered": null' out | wc -l)" = 2 ] || die "$(cat out)"
run report partly
grep -q '^\* .* not yet$' out && grep -q 'Full fine-tuning is not done: how near' out && grep -q '^not done: 1 command is still waiting or running$' out || die "$(cat out)"
! grep -q 'of the gain of full fine-tuning' out || die "$(cat out)"
run report partly -o partly.html
grep -q '>1 command is waiting' partly.html && grep -q '>near full: not yet</li>' partly.html && grep -q '>not yet</td>' partly.html || die "$(grep -i 'near full\|waiting' partly.html)"
run report runs -o page.html
for condition in gains 'needs model' 'near full'; do
    grep -q ">$condition: \(yes\|NO\)</li>" page.html && grep -q "<th[^>]*>$condition</th>" page.html || die "$condition: $(grep -i "$condition" page.html)"
done
! grep -q 'works without\|far from' page.html || die "a badge in other words"
