# The teacher's hidden states on disk: the same bytes as without, chosen where it is cheaper, gone at the end, whatever happens on the way.
. "$CLI_TEST_DIR/train_setup.sh"

# Rows of different lengths too, several in a batch and packed; every term; f32 and bf16.
awk 'BEGIN { srand(4); for (i = 0; i < 60; i++) { printf "{\"text\": \"the owner"; n = int(rand() * 12); for (k = 0; k < n; k++) printf " keeps %d", int(rand() * 99); print "\"}" } }' >rows.jsonl
set_of() {
    name=$1
    shift
    for cache in yes no; do
        run distill offer --teacher base --lr 3e-3 "$@" --teacher-cache $cache --log $name.$cache.jsonl -o $name.$cache
        [ ! -e $name.$cache/teacher.cache ] || die "$name: the cache was left behind"
        sed 's/"tokens_per_second.*bytes": [0-9]*//' $name.$cache.jsonl >$name.$cache.cut
    done
    cmp $name.yes/model.safetensors $name.no/model.safetensors || die "$name: the cache changed the result"
    diff $name.yes.cut $name.no.cut || die "$name: the cache changed the log"
}
set_of plain --train secret-notes.txt --block 32 --steps 260
set_of batch --train secret-notes.txt --block 32 --batch 3 --grad-accum 2 --steps 60 --recompute
set_of terms --train secret-notes.txt --block 32 --batch 2 --steps 130 --hidden-weight 3 --kl-weight 2
set_of rows --train rows.jsonl --block 32 --batch 4 --steps 40 --hidden-weight 3 --kl-weight 2
set_of pack --train rows.jsonl --block 32 --pack --batch 2 --steps 40 --kl-weight 2
set_of half --train secret-notes.txt --block 32 --batch 2 --steps 130 --kl-weight 2 --dtype bf16
set_of mixed --train secret-notes.txt --block 32 --batch 2 --steps 130 --hidden-weight 3 --kl-weight 2 --teacher-dtype bf16
set_of distance --train secret-notes.txt --valid held-out-notes.txt --block 32 --batch 2 --steps 130 --lm-weight 0

# A teacher in bf16 for a student in f32: nearly the same, not the same; the student is in f32.
set_of exact --train secret-notes.txt --block 32 --batch 2 --steps 130 --hidden-weight 3 --kl-weight 2
for key in loss_lm loss_kd loss_hidden loss_kl; do
    for name in mixed exact; do sed -n "s/.*\"$key\": \([0-9.e-]*\).*/\1/p" $name.no.jsonl >$name.series; done
    paste -d' ' exact.series mixed.series | awk -v key="$key" '{ d = $2 / $1 - 1; if (d > 0.03 || d < -0.03) { print key, NR, $0; exit 1 } other += $1 != $2 } END { if (other == 0) { print key, "is the same"; exit 1 } }' || die "bf16 teacher"
done
head -1 exact.no.jsonl | sed 's/.*"loss_lm": \([0-9.]*\).*/\1/' >a && head -1 mixed.no.jsonl | sed 's/.*"loss_lm": \([0-9.]*\).*/\1/' >b
cmp a b || die "the student is not in f32: $(cat a b)"
fails 2 'more than the student' distill offer --teacher base --train secret-notes.txt --block 32 --steps 9 --dtype bf16 --teacher-dtype f32 -o no

# The plan says what it would cost; by itself it is taken where rows come again.
said() { "$OFFSITE" distill offer --teacher base --train secret-notes.txt --block 32 --lr 3e-3 --no-progress "$@" -o said --force 2>&1 >/dev/null; }
said --epochs 3 >out
grep -q 'teacher: .* % of the arithmetic in 750 visits of 250 rows; .* on disk, .* % then: kept in said/teacher.cache' out || die "three epochs: $(cat out)"
said --epochs 1 >out
grep -q 'teacher: .*: not kept, the rows are not passed over twice' out || die "one epoch: $(cat out)"
said --epochs 3 --teacher-cache no >out
grep -q 'not kept, it is not wanted' out || die "not wanted: $(cat out)"
said --epochs 3 --dropout 0.1 >out
grep -q 'not kept, with dropout' out || die "dropout: $(cat out)"
said --epochs 3 --window 20 >out
grep -q 'not kept, the text is streamed' out || die "streamed: $(cat out)"
fails 2 'cannot be kept: the text is streamed' distill offer --teacher base --train secret-notes.txt --block 32 --steps 9 --window 20 --teacher-cache yes -o no
fails 2 'cannot be kept: with dropout' distill offer --teacher base --train secret-notes.txt --block 32 --steps 9 --dropout 0.1 --teacher-cache yes -o no
[ ! -e no ] || die "a refused run left a folder"

# Killed and gone on with: the file of before serves, unless it is damaged, and then it is made anew.
set -- distill offer --teacher base --train secret-notes.txt --block 32 --lr 3e-3 --steps 600
run "$@" --teacher-cache no -o whole
for damage in none cut changed; do
    "$OFFSITE" "$@" --teacher-cache yes -o stopped --log stopped.jsonl --save-every 7 --quiet --force >out 2>err </dev/null &
    pid=$!
    polls=0
    while kill -0 $pid 2>/dev/null && [ "$(lines stopped.jsonl)" -lt 30 ] && [ $polls -lt 3000 ]; do
        polls=$((polls + 1))
        sleep 0.005
    done
    kill -KILL $pid 2>/dev/null || :
    wait $pid 2>/dev/null || :
    [ -e stopped/teacher.cache ] && [ -e stopped/checkpoint.safetensors ] || die "nothing to go on from: $(ls stopped)"
    ls -i stopped/teacher.cache >before
    case $damage in
    cut) head -c 5000 stopped/teacher.cache >t && cat t >stopped/teacher.cache ;;
    changed) sed '2s/./x/' stopped/teacher.cache >t && cat t >stopped/teacher.cache ;;
    esac
    rm -f stopped.jsonl
    run "$@" --teacher-cache yes -o stopped --resume
    cmp whole/model.safetensors stopped/model.safetensors || die "$damage: the resumed run differs"
    [ ! -e stopped/teacher.cache ] || die "the cache was left behind"
done

# No room: one sentence, nothing left of it.
code=0
(
    ulimit -f 40
    trap '' XFSZ
    "$OFFSITE" "$@" --teacher-cache yes -o full --quiet >out 2>err </dev/null
) || code=$?
[ $code = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q 'cannot write full/teacher.cache (the disk may be full)' err || die "full: $code $(cat err)"
[ -z "$(ls full)" ] || die "full: $(ls full)"
run "$@" --teacher-cache yes -o full
cmp whole/model.safetensors full/model.safetensors
