-- What the local stack does to a database of its own.

-- name: enrol_everything
select orchestration.set_flag('enrolment', 'sketchy up', 'a local database: every game is ours', true, 100)
where exists (select from orchestration.flags where name = 'enrolment' and changed_by = 'default')
