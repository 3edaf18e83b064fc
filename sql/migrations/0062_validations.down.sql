drop table orchestration.attestations;
drop table orchestration.validations;
