select orchestration.switch_application_row_security(false);
drop function orchestration.switch_application_row_security(boolean);
drop function orchestration.my_games();
drop table orchestration.application_row_security;
