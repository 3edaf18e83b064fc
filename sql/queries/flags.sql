-- name: list
select name, kind, enabled, value, allow, deny, description, changed_at, changed_by, reason
from orchestration.flags
where %(name)s::text is null or name = %(name)s
order by name

-- name: history
select changed_at, kind, enabled, value, allow, deny, changed_by, reason, request_id
from orchestration.flag_history where name = %(name)s order by id desc limit %(limit)s

-- name: set
select name, kind, enabled, value, allow, deny, description, changed_at, changed_by, reason
from orchestration.set_flag(%(name)s, %(by)s, %(reason)s, %(enabled)s, %(value)s::numeric, %(allow)s, %(deny)s)

-- name: add
select orchestration.add_flag(%(name)s, %(kind)s, %(enabled)s, %(value)s::numeric, %(description)s, %(by)s, %(reason)s)

-- name: remove
select orchestration.remove_flag(%(name)s, %(by)s, %(reason)s)

-- name: asked
select orchestration.flag_includes(%(name)s, %(subject)s),
       (select orchestration.bucket(f.salt, %(subject)s) from orchestration.flags f where f.name = %(name)s)

-- name: set_default
update orchestration.flags
set enabled = coalesce(%(enabled)s::boolean, enabled), value = coalesce(%(value)s::numeric, value), reason = 'environment'
where name = %(name)s and changed_by = 'default'
  and (enabled, value) is distinct from (coalesce(%(enabled)s::boolean, enabled), coalesce(%(value)s::numeric, value))
