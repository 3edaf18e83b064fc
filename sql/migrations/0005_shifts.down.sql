drop table orchestration.circuit;
drop table orchestration.lanes;
drop table orchestration.shifts;
