# report fig3 and fig4 from outside: one command runs the grid and writes tables and plots; again without running; from a folder; bad requests.
. "$CLI_TEST_DIR/train_setup.sh"
cat >grid.yaml <<'END'
title: A tiny figure
models: base
splits: [1-1, 2-0]
emulators: ["layerdrop:keep=2", "layerdrop:keep=3", "prune:ratio=0.5", "quantize:bits=8,group=32"]
rates: [1e-3]
seeds: [1, 2]
train: secret-notes.txt
blocks: held-out-notes.txt
measure-emulator-on: held-out-notes.txt
split: {block: 32, limit: 2}
training: {steps: 3, block: 32, threads: 1}
eval: {block: 32, limit: 4, threads: 1}
full: no
END
run report fig4 --config grid.yaml -o figure
for part in 'holds\|does not hold\|undecided' 'layer-drop keeps a clear gap between' 'pruning leaves no clear gap' 'packed quantization leaves' \
    'rank correlation with plug-in over 4 recipes: gradient fidelity [+-][01]' 'zero-shot [0-9]' '± '; do
    grep -q -- "$part" out || die "no $part: $(cat out)"
done
[ "$(grep -c '^layerdrop:keep=[23]  ' out)" = 4 ] || die "two splits, two recipes each: $(cat out)"
for file in fig4.md fig4.csv fig4.svg fig4-2.svg fig4-fidelity.svg fig4-2-layerdrop.svg; do [ -s "figure/$file" ] || die "no $file: $(ls figure)"; done
grep -q '!\[fig4\](fig4.svg)' figure/fig4.md || die "the plots are not in fig4.md"
[ "$(wc -l <figure/fig4.csv)" = 9 ] || die "$(cat figure/fig4.csv)"
grep -q '"fig4","base","1-1","quantize:bits=8,group=32","full","quantize:bits,group",8,0.001,"perplexity",' figure/fig4.csv || die "$(cat figure/fig4.csv)"
[ "$(head -c 4 figure/fig4.svg)" = '<svg' ] || die "no picture"

# Its numbers are the report's.
run report figure --csv
mean=$(sed -n 's/^"base","1-1","layerdrop:keep=3",.*,\([0-9.]*\),[0-9.e-]*,2,,,0,.*/\1/p' out)
[ -n "$mean" ] && grep '"layerdrop:keep=3"' figure/fig4.csv | grep -q ",$mean," || die "plug-in $mean of the report is not in $(cat figure/fig4.csv)"
run report fig4 figure --json
grep -q '"figure": "fig4"' out && grep -q '"verdict": "' out && grep -q '"rho": ' out || die "$(cat out)"

# The same command runs nothing again and writes the same bytes; so does the folder alone.
before=$(ls -l --full-time figure/steps/*.json)
cp figure/fig4.csv first.csv
cp figure/fig4.svg first.svg
run report fig4 --config grid.yaml -o figure
[ "$before" = "$(ls -l --full-time figure/steps/*.json)" ] || die "steps ran again"
cmp first.csv figure/fig4.csv && cmp first.svg figure/fig4.svg || die "another figure the second time"
run report fig4 figure -o elsewhere --csv
cmp first.csv elsewhere/fig4.csv && cmp first.csv out && cmp first.svg elsewhere/fig4.svg || die "another figure from the folder"
[ ! -e elsewhere/state.json ] || die "a queue was made"

# Figure 3 of the same runs.
run report fig3 figure -o figure
grep -q 'with 2 trainable layers, both ends (1-1) plug in better than the bottom alone (2-0): perplexity [0-9]' out || die "$(cat out)"
[ -s figure/fig3.md ] && [ -s figure/fig3-4.svg ] && [ ! -e figure/fig3-5.svg ] || die "$(ls figure)"
grep -q 'bottom (2-0)' figure/fig3.md || die "$(cat figure/fig3.md)"
run report fig3 figure --markdown
grep -q '^| both (1-1) | 0.001 |' out || die "$(cat out)"

# The same numbers, written the same way, as in a report; and names from outside become no markup.
run report figure --csv
value() { # FILE EMULATOR COLUMN: in the rows of split 1-1
    awk -F, -v emulator="\"$2\"" -v column="$3" 'NR == 1 { for (i = NF; i > 0; i--) at[$i] = i } NR > 1 && $at["emulator"] == emulator && $at["split"] == "\"1-1\"" { print $at[column] }' "$1"
}
cp out report.csv
for column in emulator_seeds tuned tuned_spread tuned_seeds plug_in plug_in_spread cpl fidelity offer_bytes; do
    [ -n "$(value report.csv layerdrop:keep=2 $column)" ] || die "no $column"
    [ "$(value report.csv layerdrop:keep=2 $column)" = "$(value figure/fig4.csv layerdrop:keep=2 $column)" ] || die "$column: $(cat report.csv figure/fig4.csv)"
done
run report fig4 figure --json
grep -q '"plug_in": {"mean": [0-9.]*, "spread": [0-9.]*, "seeds": 2, "stderr": null}' out || die "$(cat out)"
rm -rf hostile && cp -r figure hostile
sed -i 's/"model": "base"/"model": "<script>_\\u001b[31m"/; s/"title": .*/"title": "<script>",/' hostile/state.json
run report fig4 hostile --markdown
grep -q '^# \\<script' out && grep -q '^## .*\\<script' out && ! grep -q '[^\\]<script' out && ! grep -q "$(printf '\033')" out || die "markup went through: $(grep script out)"

# A step that fails is said, and the figure of the others is made.
sed 's/"prune:ratio=0.5"/"layerdrop:keep=99"/' grid.yaml >part.yaml
code=0
"$OFFSITE" report fig4 --config part.yaml -o figure --quiet >out 2>err || code=$?
[ "$code" = 1 ] && grep -q '2 steps failed and [0-9]* steps that need one of them were left out' err && grep -q '^failed: m0.1-1.e2.split' out || die "code $code: $(cat err out)"

rm -rf hostile && cp -r figure hostile
sed -i 's/"error": ".*"/"error": "<script>"/' hostile/state.json
run report fig4 hostile --markdown
grep -q '^- failed: m0.1-1.e2.split: \\<script' out && ! grep -q '[^\\]<script' out || die "markup went through: $(grep script out)"

# An ordinary report still takes options from a file.
echo 'markdown: yes' >options.yaml
run report figure --config options.yaml
grep -q '^| \\\* | 1-1 |' out || die "$(cat out)"
printf 'models: base\ntrain: x\n' >bad.yaml
fails 2 'bad.yaml:1: nothing is measured' report fig4 --config bad.yaml -o none
fails 1 'nowhere.yaml' report fig4 --config nowhere.yaml -o none
fails 2 'fig4 needs --config RUNS.yaml to run, or a folder' report fig4
fails 2 'leave figure out' report fig3 figure --config grid.yaml
fails 2 'the data owner cannot know' report fig3 figure --data-owner
fails 2 'must end in .html (fig3 and fig4 take a folder)' report figure -o none
fails 1 'no folder nowhere' report fig3 nowhere
fails 2 'ask for one at a time' report fig4 figure --json --csv
mkdir single
cp figure/steps/m0.zero_shot.blocks.json single/zero_shot.json
cp figure/steps/m0.zero_shot.blocks.json single/tuned.json
fails 3 'fig4 compares emulators of one model with one split: the results have no two' report fig4 single
[ ! -e none ] || die "a folder was made"
