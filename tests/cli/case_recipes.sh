# Every recipe of examples/ is read by the verb that its name begins with, and runs as its comment says.
. "$CLI_TEST_DIR/train_setup.sh"

recipes=$CLI_TEST_DIR/../../examples
cp secret-notes.txt train.txt
cp held-out-notes.txt valid.txt
cp -r base model
for name in chats held-out-chats; do
    for i in 1 2 3 4 5 6; do
        echo '{"messages": [{"role": "user", "content": "a '$i'?"}, {"role": "assistant", "content": "'$i$i'."}]}'
    done >$name.jsonl
done
count=0
for recipe in "$recipes"/*.yaml; do
    file=${recipe##*/} verb=${file%%-*}
    cp "$recipe" .
    # The command in the comment, cut down to a moment.
    command=$(sed -n "s/^# *offsite \($verb .*--config $file .*\)$/\1/p" "$file")
    [ -n "$command" ] || die "$file: no comment shows the command that uses it"
    rm -rf return tuned offer2 out
    ! [ "$verb" = pretrain ] || { rm -rf model.old && mv model model.old; }
    run $command --steps 3 --block 64 --valid-every 2 --batch 1
    ! [ "$verb" = pretrain ] || { rm -rf model && mv model.old model; }
    count=$((count + 1))
done
[ $count -ge 8 ] || die "only $count recipes"
[ -f tune-grid.jsonl ] || die "a recipe's log is missing"
