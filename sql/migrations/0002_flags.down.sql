drop function orchestration.set_flag(text, text, text, boolean, numeric, text[], text[]);
drop function orchestration.flag_includes(text, text);
drop function orchestration.flag_number(text);
drop function orchestration.flag_on(text);
drop table orchestration.flags;
drop table orchestration.flag_history;
drop function orchestration.flag_record();
drop function orchestration.flag_guard();
drop function orchestration.bucket(text, text);
