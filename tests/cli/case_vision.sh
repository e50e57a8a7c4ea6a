# A classifier of pictures through the whole exchange: split, tune with the model's classes and with others, every method, plugging, averaging,
# quantised emulators, distillation without labels, resuming, and what is refused.
set -eu
rm -rf -- *
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
die() { echo "$*"; exit 1; }
has() { grep -qF -- "$2" "$1" || { echo "no '$2' in $1:"; cat "$1"; exit 1; }; }
run() { "$OFFSITE" "$@" --quiet >out 2>err </dev/null || die "offsite $*: exit code $?: $(cat err)"; }
fails() { # CODE PATTERN WORDS...
    wanted=$1 pattern=$2 code=0
    shift 2
    "$OFFSITE" "$@" --quiet >out 2>err </dev/null || code=$?
    [ "$code" = "$wanted" ] || die "offsite $*: exit code $code instead of $wanted: $(cat err)"
    grep -q "^offsite: .*$pattern" err || die "offsite $*: $(cat err), without: $pattern"
}
# loss WORDS...: of forward over the pictures with other classes.
loss() {
    "$OFFSITE" forward "$@" --input other.safetensors -o logits.safetensors --json --quiet >out 2>err || die "forward $*: $(cat err)"
    sed 's/.*"loss": \([0-9.e-]*\).*/\1/' out
}
below() { awk "BEGIN { exit !($1 < $2) }" || die "$1 is not below $2 ($3)"; }

mkdir config
cat >config/config.json <<'END2'
{"model_type": "vit", "num_hidden_layers": 6, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 4,
 "id2label": {"0": "ash", "1": "birch", "2": "cedar", "3": "date"}, "label2id": {"ash": 0, "birch": 1, "cedar": 2, "date": 3}}
END2
"$MAKE_PICTURES" four.safetensors 64 4 16 1
"$MAKE_PICTURES" other.safetensors 60 3 16 3
"$MAKE_PICTURES" plain.safetensors 60 3 16 5 nolabels
run pretrain config -o base --train four.safetensors --batch 16 --steps 100 --lr 3e-3

# What it is.
run inspect base --json --bottom 1 --top 1 --emulator layerdrop:keep=2
has out '"classes": 4, "image_size": [16, 16], "patch_size": 4, "channels": 3, "labels": ["ash", "birch", "cedar", "date"]'
has out '"trainable": 17220'
if grep -q vocab out; then die "a vocabulary of pictures"; fi
run inspect base
has out 'images of 16 x 16 pixels, 3 channels, in patches of 4'
has out 'classes: ash, birch, cedar, date'

# The model's own classes: its head goes on, also by name and in another order.
run split base -o offer --bottom 1 --top 1 --emulator layerdrop:keep=2
tune="--batch 8 --steps 30 --lr 1e-3"
run tune offer --train four.safetensors $tune -o ret.same
run tune offer --train four.safetensors --classes ash,birch,cedar,date $tune -o ret.named
cmp ret.same/adapter.safetensors ret.named/adapter.safetensors || die "naming the classes changed the run"
run plug base ret.same -o same
cmp base/config.json same/config.json
run tune offer --train four.safetensors --classes date,cedar,birch,ash $tune -o ret.order
grep -q '"ash"' ret.order/manifest.json
[ "$(grep -n '"ash"' ret.order/manifest.json | cut -d: -f1)" -lt "$(grep -n '"date"' ret.order/manifest.json | cut -d: -f1)" ] || die "the model's order was lost"

# Others: a head of zeros, the names in the return and in the plugged model.
for peft in full bitfit lora houlsby:width=8 prefix:tokens=2 head; do
    rm -rf ret tuned
    run tune offer --train other.safetensors --classes elm,fir,gorse $tune --peft $peft -o ret
    has ret/manifest.json '"classes": ['
    has ret/manifest.json '"gorse"'
    run verify ret --offer offer
    run plug base ret -o tuned
    before=1.0986 with=$(loss base --adapter ret)
    below "$with" "$before" "$peft"
    if [ -f tuned/config.json ]; then
        run inspect ret
        has out '3 classes: elm, fir, gorse'
        has tuned/config.json '"2": "gorse"'
        has tuned/config.json '"gorse": 2'
        after=$(loss tuned)
    else
        has tuned/classes.json '"gorse"'
        after=$(loss base --adapter tuned)
    fi
    awk "BEGIN { d = $with - $after; exit !(d < 1e-5 && d > -1e-5) }" || die "$peft: the return gives $with over the model, the plugged model $after"
    if [ $peft = lora ]; then
        run plug base ret -o merged --merge
        has merged/config.json '"gorse": 2'
        merged=$(loss merged)
        awk "BEGIN { d = $with - $merged; exit !(d < 1e-4 && d > -1e-4) }" || die "merged: $merged instead of $with"
        mv ret ret.lora
    fi
done

# Accuracy: what is printed is what the lines of the single pictures say.
run tune offer --train other.safetensors --classes elm,fir,gorse $tune -o ret.a
run plug base ret.a -o tuned.a
"$MAKE_PICTURES" test.safetensors 30 3 16 9
run eval tuned.a --images test.safetensors --json --output scores
has out '"images": 30, "labelled": 30'
has out '"confusion": {"labels": ["elm", "fir", "gorse"], "counts": [['
right=$(grep -c '"acc": 1.0' scores/samples_images_*.jsonl) || :
[ "$(cat scores/samples_images_*.jsonl | wc -l)" = 30 ]
awk "BEGIN { exit !($(sed 's/{"acc": \([0-9.e-]*\).*/\1/' out) * 30 > $right - 1e-6) }" || die "$right of 30 are right: $(cat out)"
below 20 "$right" "right of 30 pictures that were learnt"
diagonal=$(sed 's/.*"counts": \[\[\([0-9]*\), [0-9]*, [0-9]*\], \[[0-9]*, \([0-9]*\), [0-9]*\], \[[0-9]*, [0-9]*, \([0-9]*\)\]\].*/\1 + \2 + \3/' out)
[ $(($diagonal)) = "$right" ] || die "the diagonal of the confusion matrix is $diagonal, but $right are right"
run eval base --adapter ret.a --images test.safetensors --json
cut -d, -f1-4 out >over; run eval tuned.a --images test.safetensors --json; cut -d, -f1-4 out >inside
cmp over inside || die "the return over the model scores other than the plugged model"
run eval tuned.a --images test.safetensors --classes gorse,fir,elm --json
has out '"label": "gorse", "images": 10'
run eval tuned.a --images test.safetensors --limit 6
has out 'over 6 pictures'
fails 3 'the class "pine" is none' eval tuned.a --images test.safetensors --classes elm,fir,pine
fails 2 'reads pictures: --images' eval tuned.a --blocks test.safetensors
fails 2 'reads text, not pictures' eval "$CLI_TEST_DIR/../golden/data/train/gpt2/model" --images test.safetensors

# Several returns: the mean of their heads too; other classes are refused.
run tune offer --train other.safetensors --classes elm,fir,gorse $tune --seed 1 -o ret.b
run plug base ret.a ret.b --weights 3,1 -o averaged
has averaged/config.json '"gorse": 2'
below "$(loss averaged)" 1.0986 averaged
fails 3 'other classes' plug base ret.a ret.same -o refused
run tune offer --train other.safetensors --classes fir,elm,gorse $tune -o ret.c
fails 3 'other classes' plug base ret.a ret.c -o refused
run tune offer --train other.safetensors --classes elm,fir,gorse $tune --seed 1 --peft lora -o ret.lora2
run plug base ret.lora ret.lora2 -o averaged.lora
below "$(loss base --adapter averaged.lora)" 1.0986 averaged.lora

# Smoothed labels cost a model that is sure of itself; validation does not count them.
steps="--train four.safetensors --valid four.safetensors --batch 64 --steps 1 --no-shuffle"
run tune offer $steps --log plain.jsonl -o smooth
run tune offer $steps --log smooth.jsonl --label-smoothing 0.2 -o smooth --force
first() { head -1 "$1" | sed 's/.*"loss": \([0-9.e-]*\).*/\1/'; }
below "$(first plain.jsonl)" "$(first smooth.jsonl)" smoothing
[ "$(grep -o '"valid_loss": [0-9.]*' plain.jsonl | cut -c1-18)" = "$(grep -o '"valid_loss": [0-9.]*' smooth.jsonl | cut -c1-18)" ] || die "smoothing in validation"

# Small emulators.
for emulator in 'layerdrop:keep=2|quantize:bits=4,group=16' 'prune:ratio=0.5' 'fakequant:bits=4' 'quantize:bits=8,group=32' 'svd:ratio=0.5'; do
    run split base -o small --bottom 1 --top 1 --emulator "$emulator" --force
    run tune small --train other.safetensors --classes elm,fir,gorse $tune -o ret.small --force
    run plug base ret.small -o tuned.small --force
    below "$(loss tuned.small)" 1.0986 "$emulator"
done

# The distance alone teaches, without labels; and that is all that is logged.
run distill offer --teacher base --train plain.safetensors --valid plain.safetensors --batch 8 --steps 40 --lr 1e-3 --log distill.jsonl -o offer2
first=$(head -1 distill.jsonl | sed 's/.*"loss_kd": \([0-9.e-]*\).*/\1/') last=$(grep loss_kd distill.jsonl | tail -1 | sed 's/.*"loss_kd": \([0-9.e-]*\).*/\1/')
below "$last" "$first" distillation
if grep -q loss_lm distill.jsonl; then die "a loss of labels that are not there"; fi
run tune offer2 --train other.safetensors --classes elm,fir,gorse $tune -o ret.2
run plug base ret.2 -o tuned.2
run split base -o offer4 --bottom 1 --top 1 --emulator 'layerdrop:keep=2|distill:steps=10,batch=8' --data plain.safetensors
run split base -o offer3 --bottom 1 --top 1 --emulator 'layerdrop:keep=2|distill:steps=10,batch=8' --data four.safetensors

# A run in two parts ends with the same bytes; a run on other pictures does not go on.
long="tune offer --train other.safetensors --classes elm,fir,gorse --batch 8 --steps 500 --lr 1e-3 --save-every 5"
run $long -o whole
"$OFFSITE" $long -o half --quiet >out 2>err & pid=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -f half/checkpoint.safetensors ] && break; sleep 0.05; done
kill -INT $pid && wait $pid && die "not interrupted" || :
[ -f half/checkpoint.safetensors ] || die "no checkpoint: $(cat err)"
"$MAKE_PICTURES" changed.safetensors 60 3 16 3
printf 'x' | dd of=changed.safetensors bs=1 seek=20000 conv=notrunc 2>dd.err
fails 3 'other settings, data or model' tune offer --train changed.safetensors --classes elm,fir,gorse --batch 8 --steps 500 --lr 1e-3 -o half --resume
run $long -o half --resume
cmp whole/adapter.safetensors half/adapter.safetensors || die "a resumed run ended with other bytes"
cmp whole/manifest.json half/manifest.json

# Names that a stranger wrote.
tampered() { rm -rf bad && cp -r ret.a bad && sed -i "$1" bad/manifest.json; }
tampered 's/"gorse"/"elm"/'
fails 3 'two classes are called "elm"' plug base bad -o refused
tampered 's/"gorse"/""/'
fails 1 '"classes" must be a list of short names' plug base bad -o refused
tampered 's/"gorse"/7/'
fails 1 '"classes" must be a list of short names' plug base bad -o refused
tampered 's/"fir",//; s/"gorse"/"gorse"/'
fails 3 'of the return has shape' plug base bad -o refused
rm -rf bad && cp -r averaged.lora bad && echo '["elm", "fir"]' >bad/classes.json
fails 3 'has shape' eval base --adapter bad --images test.safetensors
echo '{"elm": 1}' >bad/classes.json
fails 3 'classes make no classifier' eval base --adapter bad --images test.safetensors
echo '["elm", "fir", ' >bad/classes.json
fails 1 'classes.json' eval base --adapter bad --images test.safetensors

# A classifier as files for others: bit for bit in its own type, and with an adapter of its blocks and head.
run export base -o exported
grep -q 'logits of 3 made-up pictures differ by 0 of their spread' out || die "$(cat out)"
for file in base/*.safetensors; do cmp "$file" "exported/$(basename "$file")" || die "$file is exported otherwise"; done
run forward base --input four.safetensors -o base.logits
run forward exported --input four.safetensors -o exported.logits
cmp base.logits exported.logits || die "the exported classifier has other logits"
run export offer -o exported.f16 --dtype f16
grep -q 'made-up pictures' out || die "$(cat out)"
fails 1 'no architecture for vit' export base -o exported.gguf

# What makes no sense.
fails 2 "no classification head" inspect "$CLI_TEST_DIR/../golden/data/train/gpt2/model" --peft head
fails 1 'labels\[2\] is 2: neither one of the 2 classes' tune offer --train other.safetensors --classes elm,fir -o refused
fails 3 'two classes are called "elm"' tune offer --train other.safetensors --classes elm,fir,elm -o refused
fails 3 'the class "elm" is none of the model' tune offer --train other.safetensors --classes elm,fir,gorse --head keep -o refused
fails 1 'needs a tensor labels' tune offer --train plain.safetensors -o refused
fails 2 'writes no text' distill offer --teacher base --train self:100 -o refused
fails 2 'for text, and this model reads pictures' tune offer --train four.safetensors --pack -o refused
fails 2 'this model reads text' finetune "$CLI_TEST_DIR/../golden/data/train/gpt2/model" --train four.safetensors --classes a,b -o refused
fails 2 'writes no text' generate base --prompt hello
fails 2 'reads pictures: --images' eval base --task piqa --data .
fails 2 'crash looks at text' split base -o refused --bottom 1 --top 1 --emulator crash:keep=2 --data four.safetensors
[ ! -e refused ] || die "a refused command left something"
sed 's/"image_size"/"layer_scale_init_value": 0.1, "image_size"/' config/config.json >scaled.json
fails 1 'layer-scale is supported in eva alone' inspect scaled.json
mkdir eva
sed 's/"model_type": "vit"/"model_type": "blip_2_vision_model", "layer_scale_init_value": 0.1/' config/config.json >eva/config.json
run pretrain eva -o eva.base --train four.safetensors --batch 16 --steps 3 --lr 3e-3
grep -q '"vision_model.encoder.layers.5.gamma_2"' eva.base/model.safetensors || die "no gains in the file"
run eval eva.base --images four.safetensors
sed 's/"layer_scale_init_value": [0-9.]*,//' eva.base/config.json >eva.base/config && mv eva.base/config eva.base/config.json
fails 1 'belongs to no part of a block of eva' eval eva.base --images four.safetensors
sed 's/"image_size"/"problem_type": "regression", "image_size"/' config/config.json >regression.json
fails 1 'only single_label_classification' inspect regression.json
