drop table orchestration.alert_messages;
drop table orchestration.alerts;
