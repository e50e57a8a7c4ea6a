# eval --task from outside: the table, JSON, files of results and samples, limits, progress, bad rows; and training that learns what is scored.
set -eu
data=$CLI_TEST_DIR/../data/eval
model=$data/llama
rm -rf d out tuned log
mkdir d
same() { [ "$2" = "$3" ] || { printf '%s: got\n%s\nwanted\n%s\n' "$1" "$2" "$3"; exit 1; }; }
has() { grep -qF -- "$2" "$1" || { echo "no '$2' in:"; cat "$1"; exit 1; }; }
fails() { # CODE LINE WORDS...
    wanted=$1 line=$2
    shift 2
    code=0
    "$OFFSITE" eval "$@" --quiet >out.text 2>err || code=$?
    [ "$code" = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out.text ] && return
    echo "eval $*: exit code $code, $(cat err)"
    exit 1
}

# Several tasks at once, own ones among them; the table.
"$OFFSITE" eval $model --task "arc_easy,$data/tasks/capitals.yaml,$data/tasks/fill_in.yaml,wikitext" --data $data/rows --output out >table 2>err
# The last digit of a perplexity depends on how the processor rounds its sums.
same table "$(sed "s/\(word_perplexity *1601\.70\)[0-9]*/\1/" table)" "task      n-shot  documents  metric                value     stderr
arc_easy       0          6  acc                  0.3333  ±  0.2108
                             acc_norm             0.1667  ±  0.1667
capitals       2          6  acc                  0.1667  ±  0.1667
                             acc_norm             0.3333  ±  0.2108
                             acc_bytes            0.3333  ±  0.2108
                             exact_match          0.0000  ±  0.0000
fill_in        0          6  exact_match,bare     0.5000  ±  0.2236
wikitext       0          3  word_perplexity   1601.70
                             byte_perplexity      3.9742
                             bits_per_byte        1.9907"
has err 'arc_easy request 24/24  took '
has err 'fill_in request 6/6  took '

# Files: one of results, one of samples for each task, a line a document.
same files "$(ls out | sed 's/_20[0-9T.-]*\././' | tr '\n' ' ')" "results.json samples_arc_easy.jsonl samples_capitals.jsonl samples_fill_in.jsonl samples_wikitext.jsonl "
same lines "$(cat out/samples_*.jsonl | wc -l | tr -d ' ')" 21
has out/results_*.json '"acc_stderr,none": 0.2108'
has out/results_*.json '"exact_match,bare": 0.5'
has out/results_*.json '"word_perplexity_stderr,none": "N/A"'
has out/samples_arc_easy_*.jsonl '"filter": "none", "metrics": ["acc", "acc_norm"]'

# Options: fewer documents, examples in front or none, the numbers as JSON.
"$OFFSITE" eval $model --task arc_easy --data $data/rows --limit 3 --num-fewshot 2 --json --quiet >json
has json '"n-shot": {"arc_easy": 2}'
has json '"n-samples": {"arc_easy": {"original": 6, "effective": 3}}'
"$OFFSITE" eval $model --task $data/tasks/capitals.yaml --num-fewshot 0 --json --quiet >json
has json '"n-shot": {"capitals": 0}'
for way in '--no-share' '--rows 40' '--dtype f32 --backend ref'; do
    "$OFFSITE" eval $model --task arc_easy,piqa,race,webqs --data $data/rows --quiet >first
    "$OFFSITE" eval $model --task arc_easy,piqa,race,webqs --data $data/rows --quiet $way >second
    same "$way" "$(cat second)" "$(cat first)"
done
"$OFFSITE" eval $model --task arc_easy,wikitext --data $data/rows --dtype bf16 --json --quiet >json
has json '"dtype": "bf16"'
"$OFFSITE" eval $model --task blocks --data $data/rows --block 32 --limit 2 --json --quiet >json
has json '"effective": 2'

# What is wrong with the rows of any task is known before the first is scored.
: >d/piqa.validation.jsonl
fails 1 'offsite: d/piqa.validation.jsonl is empty: it needs one JSON object a line' $model --task piqa --data d
echo '{"goal": "x", "sol1": "a", "label": 0}' >d/piqa.validation.jsonl
fails 1 'offsite: d/piqa.validation.jsonl:1: the field "sol2" must be a text; it is missing' $model --task piqa --data d
printf '%s\n' '{"goal": "x", "sol1": "a", "sol2": "b", "label": 0}' '{"goal": ' >d/piqa.validation.jsonl
fails 1 'offsite: d/piqa.validation.jsonl:2: not valid JSON at byte 9 (line 1, column 9): unexpected token near end of file' $model --task piqa --data d
printf '%s\n' '{"goal": "x", "sol1": "a", "sol2": "b", "label": 2}' >d/piqa.validation.jsonl
fails 1 'offsite: d/piqa.validation.jsonl:1: the field "label" must be a number from 0 to 1: which of the 2 choices is right' $model --task piqa --data d
cp $data/rows/arc_easy.test.jsonl d/
: >d/wikitext.test.txt
fails 1 'offsite: d/wikitext.test.txt is empty' $model --task arc_easy,wikitext --data d
fails 3 'offsite: 9 examples cannot be drawn from 3 rows: lower --num-fewshot' $model --task race --data $data/rows --num-fewshot 9
fails 1 'offsite: webqs has no few-shot form, in the harness neither: leave --num-fewshot out' $model --task webqs --data $data/rows --num-fewshot 1
fails 1 'offsite: --data: there is no folder nowhere' $model --task $data/tasks/any_of.yaml --data nowhere
fails 1 'offsite: d: the file blocks.test.jsonl (or .txt) is not there: put the rows of a text file into it, one JSON object a line' $model --task blocks --data d
: >occupied
fails 1 'offsite: occupied exists and is not a directory' $model --task arc_easy --data $data/rows --output occupied
fails 1 'offsite: cannot create the directory occupied/below: Not a directory' $model --task arc_easy --data $data/rows --output occupied/below
printf 'task: t\ndoc_to_txt: x\n' >bad.yaml
fails 1 "offsite: bad.yaml:2: a task file has no key 'doc_to_txt' (docs/evaluation.md lists them)" $model --task bad.yaml
fails 3 'offsite: fill_in: answers of 6 tokens leave no room for a question in the 5 that the model can be fed: give a smaller max_gen_toks' \
    $model --task $data/tasks/fill_in.yaml --max-length 5
fails 3 "offsite: $data/rows/arc_easy.test.jsonl:1: an answer of 7 tokens is longer than the 3 that the model can be fed: leave the row out" \
    $model --task arc_easy --data $data/rows --max-length 3
echo short >d/blocks.test.txt
fails 3 'offsite: d/blocks.test.txt has 5 tokens, fewer than one block of 512: use a smaller --block or more text' $model --task blocks --data d

# Training on a task learns what evaluation scores: at rate 0 the mean loss over the learnt tokens of all rows is the right choices' likelihood.
for name in arc_easy openbookqa piqa hellaswag sciq $data/tasks/capitals.yaml $data/tasks/yes_no.yaml; do
    task=$(basename $name .yaml)
    rows=$(ls $data/rows/$task.test.jsonl $data/rows/$task.validation.jsonl 2>/dev/null | head -n 1)
    for kind in llama opt; do
        rm -rf tuned log out
        "$OFFSITE" eval $data/$kind --task $name --data $data/rows --num-fewshot 0 --output out --quiet >table
        "$OFFSITE" data $rows -m $data/$kind --task $name --block 90 --json >counted
        "$OFFSITE" finetune $data/$kind --train $rows --valid $rows --task $name --block 90 --lr 0 --steps 1 --log log -o tuned --quiet >told
        awk -v name="$kind $task" '
            FILENAME == "counted" { match($0, /"learnt": [0-9]+/); learnt = substr($0, RSTART + 10, RLENGTH - 10) + 0 }
            FILENAME == "log" && /valid_loss/ { match($0, /"valid_loss": [0-9.e+-]+/); loss = substr($0, RSTART + 14, RLENGTH - 14) }
            FILENAME ~ /samples_/ {
                match($0, /"target": "[0-9]+/); right = substr($0, RSTART + 11, RLENGTH - 11)
                text = $0; sub(/.*"filtered_resps": \[\[/, "", text); sub(/\]\], "filter.*/, "", text)
                split(text, pairs, /\], \[/); split(pairs[right + 1], pair, /"/); sum -= pair[2]
            }
            END {
                distance = loss * learnt - sum
                if (learnt < 6 || sum <= 0 || distance > 1e-4 * sum || distance < -1e-4 * sum) {
                    print name ": " learnt " tokens of loss " loss " make " loss * learnt ", evaluation " sum; exit 1
                }
            }' counted log out/samples_*.jsonl
    done
done

# A task of exact match teaches the text that ends an answer too.
"$OFFSITE" data $data/rows/fill_in.test.jsonl -m $model --task $data/tasks/fill_in.yaml --show 1 >shown
has shown 'A:[ COLD MORNING!'
sed -n '/^A:\[ COLD MORNING!$/,/^\]$/p' shown >ending
same ending "$(wc -l <ending | tr -d ' ')" 2
code=0
"$OFFSITE" data $data/rows/letters.test.jsonl -m $model --task $data/tasks/letters.yaml >out.text 2>err || code=$?
same 'perplexity task' "$code $(cat err)" "2 offsite: --task: $data/tasks/letters.yaml has no answers to learn: give its text itself"

# The examples of the documentation.
for task in tickets plurals letters; do
    "$OFFSITE" eval $model --task "$CLI_TEST_DIR/../../examples/tasks/$task.yaml" --quiet >table
    has table "$task"
done

"$OFFSITE" help task >page
"$OFFSITE" eval --help task | cmp - page
has page 'piqa.validation.jsonl; acc, acc_norm'

# What is done is kept when a later task fails.
rm -rf out
code=0
"$OFFSITE" eval $model --task arc_easy,blocks --data $data/rows --block 4096 --output out --quiet >table 2>err || code=$?
same 'failed task' "$code" 3
same 'kept files' "$(ls out | sed 's/_20[0-9T.-]*\././' | tr '\n' ' ')" "results.json samples_arc_easy.jsonl "
has out/results_*.json '"acc_norm_stderr,none"'
