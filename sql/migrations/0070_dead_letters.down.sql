revoke update (replay_asked_at, last_answer) on orchestration.dead_letters from sketchy_relay;
drop function orchestration.act_on_dead_letters(
    text, uuid[], uuid, text, text, timestamptz, timestamptz, boolean, text, text, integer, boolean);
drop type orchestration.dead_letter_act;
drop index orchestration.dead_letters_asked_idx;
alter table orchestration.dead_letters
    drop constraint dead_letters_settled_check, drop column replay_asked_at, drop column after_seq;
