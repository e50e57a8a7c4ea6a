# Files that were cut off, at several places, down to nothing: every reader fails with exit code 1 and one line. `verify` answers 3.
. "$CLI_TEST_DIR/train_setup.sh"

# cut CODE FILE LEAST WORDS...: with FILE cut to nothing, to 3 bytes, to a tenth, to half and by its last LEAST bytes.
cut() {
    code=$1 file=$2 least=$3
    shift 3
    cp "$file" kept
    size=$(stat -c %s kept)
    for size in 0 3 $((size / 10)) $((size / 2)) $((size - least)); do
        head -c "$size" kept >"$file"
        fails "$code" '' "$@"
    done
    cp kept "$file"
}

sed -i 's/"vocab_size": 600/"vocab_size": 600, "bos_token_id": 5, "eos_token_id": 5/' base/config.json
run tune offer --train secret-notes.txt --block 32 --steps 2 -o return
run tune offer --train secret-notes.txt --block 32 --steps 2 --peft lora -o lora-return
run finetune base --train secret-notes.txt --block 32 --steps 2 --peft lora -o lora
run export base -o base.gguf
run export base --adapter lora --gguf-lora -o lora.gguf
gzip -k held-out-notes.txt
echo '{"text": "some words that would be learnt"}' >rows.jsonl
cp "$CLI_TEST_DIR/../data/eval/rows/piqa.validation.jsonl" .

text='--blocks held-out-notes.txt --block 32'
cut 1 base/model.safetensors 1 eval base $text
cut 1 base/config.json 3 eval base $text
cut 1 base/tokenizer.json 1 eval base $text
cut 1 base.gguf 1 eval base.gguf $text
cut 1 lora.gguf 1 eval base --adapter lora.gguf $text
cut 1 lora/adapter_model.safetensors 1 eval base --adapter lora $text
cut 1 lora/adapter_config.json 3 eval base --adapter lora $text
cut 1 lora-return/adapter_model.safetensors 1 eval offer --adapter lora-return $text
cut 1 held-out-notes.txt.gz 1 eval base --blocks held-out-notes.txt.gz --block 32
cut 1 held-out-notes.txt.gz 1 finetune base --train held-out-notes.txt.gz --block 32 --steps 1 -o none
cut 1 held-out-notes.txt.gz 1 finetune base --train held-out-notes.txt.gz --block 32 --steps 1 --window 8 -o none
cut 1 rows.jsonl 2 finetune base --train rows.jsonl --block 32 --steps 1 -o none
cut 1 rows.jsonl 2 finetune base --train rows.jsonl --block 32 --steps 1 --window 8 -o none
cut 1 rows.jsonl 2 data rows.jsonl -m base
cut 1 piqa.validation.jsonl 2 eval base --task piqa --data .
cut 1 offer/manifest.json 3 tune offer --train secret-notes.txt --block 32 --steps 1 -o none
cut 1 return/adapter.safetensors 1 plug base return -o none
cut 1 return/manifest.json 3 plug base return -o none
cut 1 offer.owner.json 3 plug base return --ledger offer.owner.json -o none
cut 3 return/adapter.safetensors 1 verify return
cut 3 offer/model.safetensors 1 verify offer
cut 3 offer/manifest.json 3 verify offer

# Three bytes of a packed file are no text, whatever its reader.
for bytes in '\050' '\050\265' '\050\265\057'; do
    printf "$bytes" >short.zst
    fails 1 'short.zst: the zstd data end early, at byte [123]: the file was cut off$' data short.zst -m base
    fails 1 'short.zst: the zstd data end early' eval base --blocks short.zst --block 4
    fails 1 'short.zst: the zstd data end early' finetune base --train short.zst --block 4 --steps 1 -o none
    fails 1 'short.zst: the zstd data end early' finetune base --train short.zst --block 4 --steps 1 --window 8 -o none
done

# Text itself may end anywhere; there must be some.
: >nothing.txt
fails 1 'nothing.txt is empty' finetune base --train nothing.txt --block 32 --steps 1 -o none
fails 1 'nothing.txt is empty' finetune base --train nothing.txt --block 32 --steps 1 --window 8 -o none
fails 1 'nothing.txt is empty' eval base --blocks nothing.txt --block 32
