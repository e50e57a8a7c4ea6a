# Folders, archives and lists of pictures through the verbs: what is left out and told, what is refused, the same bytes whatever the threads and
# after kill -9, changes at random by seed, distillation without labels, every tuning method, and images of another size.
set -eu
rm -rf -- *
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
die() { echo "$*"; exit 1; }
run() { "$OFFSITE" "$@" --quiet >out 2>err </dev/null || die "offsite $*: exit code $?: $(cat err)"; }
loud() { "$OFFSITE" "$@" >out 2>err </dev/null || die "offsite $*: exit code $?: $(cat err)"; }
has() { grep -qF -- "$2" "$1" || { echo "no '$2' in $1:"; cat "$1"; exit 1; }; }
fails() { # CODE PATTERN WORDS...
    wanted=$1 pattern=$2 code=0
    shift 2
    "$OFFSITE" "$@" --quiet >out 2>err </dev/null || code=$?
    [ "$code" = "$wanted" ] || die "offsite $*: exit code $code instead of $wanted: $(cat err)"
    [ "$(wc -l <err)" = 1 ] && [ ! -s out ] || die "offsite $*: more than one line: $(cat err out)"
    grep -q "^offsite: .*$pattern" err || die "offsite $*: $(cat err), without: $pattern"
}
below() { awk "BEGIN { exit !($1 < $2) }" || die "$1 is not below $2 ($3)"; }

mkdir config
cat >config/config.json <<'END2'
{"model_type": "vit", "num_hidden_layers": 6, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 4,
 "id2label": {"0": "ash", "1": "birch", "2": "cedar", "3": "date"}, "label2id": {"ash": 0, "birch": 1, "cedar": 2, "date": 3}}
END2
"$MAKE_PICTURES" four.safetensors 64 4 16 1
run pretrain config -o base --train four.safetensors --batch 16 --steps 20 --lr 3e-3
run split base -o offer --bottom 1 --top 1 --emulator layerdrop:keep=2

# Photos as people have them.
good=$CLI_TEST_DIR/../data/image bad=$CLI_TEST_DIR/../data/bad/image
mkdir -p 'photos/red elm' photos/-fir/2024/may photos/notes
cp "$good/rgb.jpg" "$good/cmyk.jpg" "$good/rgb-16.png" "$good/turned-6.jpg" 'photos/red elm'
cp "$good/palette.png" "$good/animated.webp" photos/-fir
cp "$good/grey-16.png" "$good/rgba.png" "$good/progressive.jpg" photos/-fir/2024/may
clean() { rm -rf clean && cp -r photos clean && rm -r clean/notes; }
clean
: >photos/-fir/nothing.jpg
cp "$bad/jpeg-cut-data" 'photos/red elm/cut.jpg'
cp "$bad/png-huge" photos/-fir/huge.png
cp "$bad/jpeg-many-pixels" photos/-fir/many.jpg
cp "$bad/webp-cut" photos/-fir/cut.webp
cp "$bad/text" photos/-fir/text.jpeg
cp "$bad/gif" photos/-fir/moving.gif
cp "$bad/heic" photos/-fir/phone.HEIC
cp "$bad/text" photos/notes/readme.txt
cp "$good/rgb.png" photos/beside.png

# Each is left out, counted and told; the others train. With --strict the first is an error.
loud tune offer --train photos/ --steps 4 --batch 4 -o ret
has err 'warning: photos/: 10 files or folders cannot be used and were left out, 9 pictures are left (--strict stops at the first)'
has err '  photos/beside.png lies beside the folders of classes: it has no class'
has err 'and 5 more: offsite data photos/ lists them'
has err 'a new head for 2 classes, -fir ... red elm, which begins with zeros'
has err 'tune: 9 pictures of 16 x 16 pixels, 4 steps'
has ret/manifest.json '"red elm"'
loud data photos
has out 'photos: folders; 9 pictures of 17 x 17 to 23 x 23 pixels'
for reason in 'nothing.jpg is empty: it holds no picture' 'cut.jpg is a damaged or cut-off JPEG' 'huge.png is said to have 60000 x 60000 pixels' \
    'many.jpg is said to have 30000 x 30000 pixels' 'cut.webp is a damaged or cut-off WebP' 'text.jpeg is no picture' 'moving.gif is a GIF, which is not read' \
    'phone.HEIC is a HEIC, which is not read' 'photos/notes holds no pictures: it is no class'; do
    has out "$reason"
done
run data photos/ --json
has out '"layout": "folders", "pictures": 9, "unlabelled": 0'
has out '"classes": [{"label": "-fir", "pictures": 5}, {"label": "red elm", "pictures": 4}], "left_out": 10'
fails 1 'photos/beside.png lies beside' tune offer --train photos --strict -o refused
fails 1 'photos/beside.png lies beside' data photos --strict
run tune offer --train clean --strict --steps 4 --batch 4 -o ret.clean
cmp ret/adapter.safetensors ret.clean/adapter.safetensors || die "what was left out changed the run"
run plug base ret -o tuned
loud eval tuned --images photos --json
has out '"images": 9, "labelled": 9, "left_out": 10'
has err 'warning: photos: 10 files or folders cannot be used and were left out, 9 pictures are left'
fails 1 'photos/beside.png lies beside' eval tuned --images photos --strict
run eval tuned --images clean --strict --json
has out '"left_out": 0'

# The same pictures in an archive, in shards and in a list: the same accuracy and loss.
score() { run eval tuned --images "$1" --json; sed 's/, "images_per_second.*//' out; }
folder=$(score clean)
(cd clean && tar cf ../photos.tar --sort=name -- *)
[ "$(score photos.tar)" = "$folder" ] || die "an archive scores other than the folder"
tar cf whole.tar --sort=name clean
[ "$(score whole.tar)" = "$folder" ] || die "a folder around the classes changes the score"
(cd clean && echo path,label && find . -name '*.*' -type f | sort | sed 's/^.\/\([^/]*\)\/.*/&,\1/') >list.csv
mv list.csv clean
[ "$(score clean/list.csv)" = "$folder" ] || die "a list scores other than the folder: $(score clean/list.csv)"
rm clean/list.csv
mkdir samples shards
i=0
(cd clean && find . -type f | sort) | while read -r file; do
    i=$((i + 1))
    cp "clean/$file" "samples/$i.${file##*.}"
    name=${file#./}
    printf '%s\n' "${name%%/*}" >samples/$i.cls
done
(cd samples && tar cf ../shards/0.tar 1.* 2.* 3.* 4.* && tar cf ../shards/1.tar 5.* 6.* 7.* 8.* 9.*)
[ "$(score shards)" = "$folder" ] || die "WebDataset shards score other than the folder"
printf 'x' | dd of=shards/1.tar bs=1 seek=20 conv=notrunc 2>dd.err
fails 1 'shards/1.tar: byte 0 of the tar archive' eval tuned --images shards

# The page for the data owner: small copies of right and wrong pictures, made anew, so that nothing of a camera's remarks is in them.
grep -q camera 'clean/red elm/turned-6.jpg' || die "the test's picture has no remarks"
mkdir -p odd && cp -r clean/-fir 'odd/<b>&"fir"' && cp -r 'clean/red elm' odd
run tune offer --train odd --steps 60 --batch 4 --lr 1e-3 -o ret.odd
run eval offer --adapter ret.odd --images odd --output scores
run report scores --data-owner --pictures odd -o page.html
right=$(grep -c '"acc": 1.0' scores/samples_images_*.jsonl) || :
[ "$(grep -o '<img src="data:image/jpeg;base64,' page.html | wc -l)" = 9 ] || die "not every picture is in the page"
has page.html "$right of 9 pictures; here $right spread over all of them"
has page.html '&lt;b&gt;&amp;&quot;fir&quot;'
has page.html 'What is taken for what'
if grep -q '<b>&"fir' page.html; then die "a class's name became markup"; fi
grep -o 'base64,[A-Za-z0-9+/=]*' page.html | cut -c8- | while read -r picture; do
    printf '%s' "$picture" | base64 -d >copy.jpg
    if grep -qa 'camera\|Exif' copy.jpg; then die "a camera's remarks are in the page"; fi
done
[ "$(run report scores --data-owner --pictures odd --show 1 -o one.html && grep -o '<img' one.html | wc -l)" -le 2 ]
# Another folder with the same names is not what was scored; one with more pictures is told apart by the counts.
cp -r odd swapped && cp "$good/grey-16.png" "swapped/red elm/rgb-16.png"
fails 3 'red elm/rgb-16.png of swapped is not the picture that was evaluated under this name' report scores --data-owner --pictures swapped -o refused
[ ! -e refused ] || die "a page of pictures that were not scored"
cp -r odd more && cp "$good/rgb.png" 'more/red elm/new.png'
loud report scores --data-owner --pictures more -o more.html
has err '9 of the 10 pictures of more were scored'
has more.html '9 of the 10 pictures of more were scored.'
sed 's/, *"sha256": "[0-9a-f]*"//' scores/samples_images_*.jsonl >old.jsonl
fails 3 'has no "sha256" of its picture' report old.jsonl --data-owner --pictures odd -o refused
# The same from an archive: a digest is of the picture, wherever it lies.
(cd odd && tar cf ../odd.tar --sort=name -- *)
run report scores --data-owner --pictures odd.tar -o archive.html
# Never for the owner of the model: not asked for by mistake, nor in any form of the report, nor in what is sent.
fails 2 'it is for that party alone: with --data-owner' report scores --pictures odd -o refused
fails 2 'needs -o PAGE.html' report scores --data-owner --pictures odd
fails 2 'makes a page, and no other form' report scores --data-owner --pictures odd --json -o refused
fails 3 'is not among those of clean: name what was evaluated' report scores --data-owner --pictures clean -o refused
fails 2 'holds no predictions of pictures' report ret.odd --data-owner --pictures odd -o refused
mkdir five && cp page.html scores/* five && echo '{"perplexity": 3.5, "blocks": 4}' >five/tuned.json
for form in --json --csv --markdown; do
    run report five $form
    if grep -q 'data:image\|rgb.jpg' out; then die "pictures in the owner's report"; fi
done
if grep -rlq 'data:image\|rgb.jpg\|turned-6' ret.odd; then die "the return names pictures"; fi
head -c 300 scores/samples_images_*.jsonl >cut.jsonl
fails 1 'cut.jsonl:' report cut.jsonl --data-owner --pictures odd -o refused
echo '{"image": "../../etc/passwd", "label": "a", "prediction": "a", "top5": [{"label": "a", "probability": 0.5}]}' >outside.jsonl
fails 3 'the picture ../../etc/passwd is not among those of odd' report outside.jsonl --data-owner --pictures odd -o refused

# What cannot be: one class, none, parts of a data set, another model's classes, a packed archive.
mkdir -p one && cp -r clean/-fir one
fails 3 'every picture is of one class, "-fir"' tune offer --train one -o refused
fails 3 'no picture has a label' tune offer --train 'clean/-fir/2024/may' -o refused
mkdir -p parts/train parts/test && cp -r clean/-fir parts/train && cp -r clean/-fir parts/test
fails 2 'holds the parts of a data set (test, ...) and no classes: name one of them, parts/test' tune offer --train parts -o refused
fails 3 'the class "-fir" is none of the model' eval base --images clean
gzip -k photos.tar
fails 2 'photos.tar.gz is a packed archive, which is not read: unpack it' eval tuned --images photos.tar.gz
mkdir void && cp "$bad/text" void/
fails 1 'void holds no pictures that can be used' eval tuned --images void
mkdir -p damaged/a damaged/b && cp "$bad/jpeg-cut-data" damaged/a/a.jpg && cp "$bad/text" damaged/b/b.png
fails 1 'damaged: none of its 2 pictures can be read; the first: damaged/a/a.jpg is a damaged' tune offer --train damaged -o refused
cp -r base broken && echo '{"image_std": 0}' >broken/preprocessor_config.json
fails 1 'broken/preprocessor_config.json: image_std must be three numbers above 0' eval broken --images clean
[ ! -e refused ] || die "a refused command left something"

# A picture alone in its class counts; a class whose pictures are all bad is none.
mkdir -p few/elm few/fir few/gone && cp "$good/rgb.jpg" few/elm && cp "$good/grey.jpg" few/fir && cp "$bad/jpeg-cut-data" few/gone/a.jpg
loud tune offer --train few --steps 2 --batch 2 -o ret.few
has err 'few: the class gone is left out with all its pictures'
has err 'a new head for 2 classes, elm ... fir'

# Random changes: decided by the seed, not by threads or what is read ahead.
aug="--train clean --batch 4 --steps 12 --lr 1e-3 --augment crop=0.3,flip,jitter=0.4 --label-smoothing 0.1"
unset OMP_NUM_THREADS
run tune offer $aug --seed 5 --threads 1 -o aug.1
for threads in 2 8; do
    run tune offer $aug --seed 5 --threads $threads -o aug.$threads
    cmp aug.1/adapter.safetensors aug.$threads/adapter.safetensors || die "$threads threads end with other bytes than one"
done
export OMP_NUM_THREADS=1
run tune offer $aug --seed 6 -o aug.other
cmp -s aug.1/adapter.safetensors aug.other/adapter.safetensors && die "another seed, the same run" || :
run tune offer --train clean --batch 4 --steps 12 --lr 1e-3 --label-smoothing 0.1 --seed 5 -o aug.none
cmp -s aug.1/adapter.safetensors aug.none/adapter.safetensors && die "nothing was changed at random" || :

# Killed in the middle of it, again and again, and resumed: the same bytes. Another picture is noticed.
long="tune offer --train clean --batch 4 --steps 300 --lr 1e-3 --augment crop=0.3,flip,jitter=0.4 --save-every 3"
run $long -o whole
for round in 1 2 3; do
    rm -f log.jsonl
    "$OFFSITE" $long -o killed --resume --log log.jsonl --quiet >out 2>err </dev/null & pid=$!
    polls=0
    while kill -0 $pid 2>/dev/null && [ "$(cat log.jsonl 2>/dev/null | wc -l)" -lt 20 ] && [ $polls -lt 1000 ]; do
        polls=$((polls + 1))
        sleep 0.005
    done
    kill -9 $pid 2>/dev/null || :
    wait $pid 2>/dev/null || :
done
[ -f killed/checkpoint.safetensors ] || die "nothing was killed: $(cat err)"
cp -r clean changed && cp "$good/rough.jpg" 'changed/red elm/rgb.jpg'
fails 3 'other settings, data or model' tune offer --train changed --batch 4 --steps 300 --lr 1e-3 --augment crop=0.3,flip,jitter=0.4 --save-every 3 -o killed --resume
run $long -o killed --resume
cmp whole/adapter.safetensors killed/adapter.safetensors || die "a killed and resumed run ended with other bytes"

# Pictures without labels teach an emulator.
run distill offer --teacher base --train clean/-fir/2024/may --batch 3 --steps 30 --lr 1e-3 --log distill.jsonl -o offer2
first=$(head -1 distill.jsonl | sed 's/.*"loss_kd": \([0-9.e-]*\).*/\1/') last=$(grep loss_kd distill.jsonl | tail -1 | sed 's/.*"loss_kd": \([0-9.e-]*\).*/\1/')
below "$last" "$first" distillation

# Every architecture with every method and a quantised emulator, at the size its preprocessor_config.json says, which is not the model's.
cat >vit.json <<'END2'
{"model_type": "vit", "num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 4, "num_labels": 2}
END2
sed 's/"vit"/"clip_vision_model"/; s/"num_labels"/"hidden_act": "quick_gelu", "num_labels"/' vit.json >clip.json
sed 's/"vit"/"blip_2_vision_model"/' vit.json >eva.json
for arch in vit clip eva; do
    mkdir $arch && mv $arch.json $arch/config.json
    "$MAKE_PICTURES" two.safetensors 8 2 16 4
    run pretrain $arch -o $arch.base --train two.safetensors --batch 8 --steps 2 --lr 1e-3
    echo '{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 24}}' >$arch.base/preprocessor_config.json
    for emulator in layerdrop:keep=1 'layerdrop:keep=1|quantize:bits=4,group=16' 'layerdrop:keep=1|quantize:bits=8,group=16'; do
        run split $arch.base -o small --bottom 1 --top 1 --emulator "$emulator" --force
        [ -f small/preprocessor_config.json ] || die "the offer lacks preprocessor_config.json"
        for peft in full bitfit lora houlsby:width=8 prefix:tokens=2 head; do
            [ "$emulator" = layerdrop:keep=1 ] || [ $peft = full ] || [ $peft = lora ] || continue
            run tune small --train clean --batch 9 --steps 15 --lr 2e-3 --peft $peft -o small.ret --log small.jsonl --force
            below "$(tail -1 small.jsonl | sed 's/.*"loss": \([0-9.e-]*\).*/\1/')" 0.69 "$arch $emulator $peft"
            rm -rf small.tuned
            run plug $arch.base small.ret -o small.tuned
        done
    done
done
