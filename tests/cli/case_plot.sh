# offsite plot: a picture and a terminal chart from a log, also a torn one, a grid's and several; what is refused.
. "$CLI_TEST_DIR/train_setup.sh"

run tune offer --train secret-notes.txt --valid held-out-notes.txt --block 32 --steps 40 --valid-every 10 --lr 3e-3 --log run.jsonl -o return
run plot run.jsonl
grep -q 'training' out && grep -q 'validation' out && grep -q 'x' out || die "no chart: $(cat out)"
! grep -q "$(printf '\033')" out || die "escape sequences outside a terminal"
run plot run.jsonl -o a.svg --title 'R & D'
cp run.jsonl torn.jsonl
printf '{"step": 40, "lo' >>torn.jsonl
run plot torn.jsonl -o b.svg --title 'R & D'
cmp a.svg b.svg || die "a torn last line changed the picture"
grep -q 'R &amp; D' a.svg && grep -q '>best ' a.svg && grep -q '</svg>' a.svg
run plot run.jsonl torn.jsonl -o both.svg
grep -q '>run, training<' both.svg && grep -q '>torn, validation<' both.svg
run plot run.jsonl --key grad_norm,learning_rate --x tokens --log-y
grep -q 'grad_norm' out && grep -q 'tokens' out

echo '{"step": 0, "loss": 1}' >bad.jsonl
echo 'notes' >>bad.jsonl
fails 1 'bad.jsonl:2: ' plot bad.jsonl
echo '{"text": "x"}' >other.jsonl
fails 1 'other.jsonl:1: no line of a training log' plot other.jsonl
: >empty.jsonl
fails 3 'empty.jsonl has no line with loss' plot empty.jsonl
fails 3 'no line with los:' plot run.jsonl --key los
fails 1 'missing.jsonl' plot missing.jsonl
fails 1 'cannot' plot run.jsonl -o nowhere/a.svg
