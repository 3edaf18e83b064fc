select orchestration.restore_functions();
drop function orchestration.restore_functions();
drop function orchestration.copy_execute_grants(regprocedure, regprocedure);
drop function orchestration.adapt_functions();
drop function orchestration.replace_function(regprocedure, text);
drop function orchestration.filtered_list_body(text, text);
drop function orchestration.guarded_body(text, text, text);
drop table orchestration.replaced_functions;
