-- name: WorkflowInsert :execrows
INSERT INTO workflows (id, kind, cluster_id, cluster_name, status, input, reply, exclusive, eta_us, created_by, retry_of, created_at)
VALUES (@id, @kind, @cluster_id, @cluster_name, @status, @input, @reply, @exclusive, @eta_us, @created_by, @retry_of, @created_at)
ON CONFLICT (cluster_id) WHERE exclusive AND finished_at IS NULL DO NOTHING;

-- name: StepInsert :exec
INSERT INTO workflow_steps (workflow_id, ordinal, name, title, milestone, release, status, typical_us)
SELECT @workflow_id::uuid, unnest(@ordinals::int[]), unnest(@names::text[]), unnest(@titles::text[]), unnest(@milestones::text[]),
       unnest(@releases::text[]), unnest(@statuses::text[]), unnest(@typical_us::bigint[]);

-- name: WorkflowByID :one
SELECT * FROM workflows WHERE id = @id;

-- name: WorkflowLock :one
SELECT * FROM workflows WHERE id = @id FOR UPDATE;

-- name: WorkflowLook :one
UPDATE workflows SET looked_at = @at::timestamptz WHERE id = @id RETURNING *;

-- name: StepList :many
SELECT * FROM workflow_steps WHERE workflow_id = @workflow_id ORDER BY ordinal;

-- name: WorkflowList :many
SELECT * FROM workflows
WHERE (created_at, id) < (@before_at::timestamptz, @before_id::uuid)
  AND (sqlc.narg('cluster_id')::uuid IS NULL OR cluster_id = sqlc.narg('cluster_id'))
  AND (sqlc.narg('kind')::text IS NULL OR kind = sqlc.narg('kind'))
  AND (sqlc.narg('status')::text IS NULL OR status = sqlc.narg('status'))
  AND (NOT @active::bool OR finished_at IS NULL)
ORDER BY created_at DESC, id DESC
LIMIT @lim::int;

-- name: WorkflowUpdate :exec
UPDATE workflows SET
    cluster_id = @cluster_id, cluster_name = @cluster_name, status = @status, result = @result, reason = @reason, message = @message,
    eta_us = @eta_us, cancelled_at = @cancelled_at, cancelled_by = @cancelled_by, finished_at = @finished_at
WHERE id = @id;

-- name: StepUpdate :exec
UPDATE workflow_steps SET
    status = @status, reason = @reason, message = @message, started_at = @started_at, finished_at = @finished_at,
    evaluations = @evaluations, waited_us = @waited_us
WHERE workflow_id = @workflow_id AND name = @name;

-- name: WorkflowPending :many
SELECT * FROM workflows WHERE scheduled_at IS NULL ORDER BY created_at LIMIT @lim::int;

-- name: WorkflowScheduled :exec
UPDATE workflows SET scheduled_at = coalesce(scheduled_at, @at::timestamptz) WHERE id = @id;

-- name: WorkflowSilent :many
UPDATE workflows w SET asked_at = @now::timestamptz
WHERE w.id IN (
    SELECT q.id FROM workflows q
    WHERE q.finished_at IS NULL AND greatest(q.scheduled_at, q.looked_at, q.asked_at) < @before::timestamptz AND q.scheduled_at IS NOT NULL
    ORDER BY q.created_at LIMIT @lim::int FOR UPDATE SKIP LOCKED)
RETURNING w.id, greatest(w.scheduled_at, w.looked_at)::timestamptz AS since;

-- name: WorkflowPurge :many
DELETE FROM workflows
WHERE id IN (SELECT w.id FROM workflows w WHERE w.finished_at < @before::timestamptz AND w.created_at < @before ORDER BY w.created_at LIMIT @lim::int)
RETURNING id;

-- name: WaitPut :exec
INSERT INTO workflow_waits (workflow_id, sequence, cluster_id, subjects, since, deadline, seen)
VALUES (@workflow_id, @sequence, @cluster_id, @subjects, @since, @deadline, @seen)
ON CONFLICT (workflow_id) DO UPDATE SET
    sequence = excluded.sequence, cluster_id = excluded.cluster_id, subjects = excluded.subjects, since = excluded.since,
    deadline = excluded.deadline, seen = excluded.seen, woken_at = NULL, raised_at = NULL
WHERE workflow_waits.sequence <= excluded.sequence;

-- name: WaitTake :one
DELETE FROM workflow_waits WHERE workflow_id = @workflow_id RETURNING since, woken_at;

-- name: WaitWake :execrows
UPDATE workflow_waits w SET woken_at = coalesce(w.woken_at, h.at)
FROM (SELECT unnest(@event_ids::bigint[]) AS id, unnest(@cluster_ids::uuid[]) AS cluster_id, unnest(@subjects::text[]) AS subject,
             unnest(@ats::timestamptz[]) AS at) h
WHERE w.cluster_id = h.cluster_id AND h.subject = ANY (w.subjects) AND h.id > w.seen AND w.woken_at IS NULL;

-- name: WaitWakeAll :exec
UPDATE workflow_waits SET woken_at = @at::timestamptz WHERE woken_at IS NULL;

-- name: WaitWakeWorkflow :exec
UPDATE workflow_waits SET woken_at = coalesce(woken_at, @at::timestamptz) WHERE workflow_id = @workflow_id;

-- name: WaitDue :many
UPDATE workflow_waits w SET raised_at = @now::timestamptz
WHERE w.workflow_id IN (
    SELECT d.workflow_id FROM workflow_waits d
    WHERE (d.woken_at IS NOT NULL OR d.deadline <= @now) AND (d.raised_at IS NULL OR d.raised_at < @told_before::timestamptz)
    ORDER BY d.since LIMIT @lim::int FOR UPDATE SKIP LOCKED)
RETURNING w.workflow_id, w.sequence;

-- name: EventsSince :one
SELECT EXISTS (
    SELECT 1 FROM events
    WHERE cluster_id = @cluster_id AND id > @after::bigint AND NOT transient
      AND (split_part(type, '.', 1) = ANY (@subjects::text[]) OR split_part(type, '.', 1) || '/' || subject = ANY (@subjects)));

-- name: EffectRecord :exec
INSERT INTO workflow_effects (workflow_id, ordinal, kind, name, cluster_id, recorded_at, before, after)
SELECT @workflow_id, count(*) + 1, @kind, @name, @cluster_id, @recorded_at, @before, @after FROM workflow_effects e WHERE e.workflow_id = @workflow_id
ON CONFLICT (workflow_id, kind, name) DO UPDATE SET after = excluded.after;

-- name: EffectList :many
SELECT * FROM workflow_effects WHERE workflow_id = @workflow_id ORDER BY ordinal DESC;

-- name: EffectUndone :exec
UPDATE workflow_effects SET undone_at = coalesce(undone_at, @at::timestamptz)
WHERE workflow_id = @workflow_id AND kind = @kind AND name = @name;

-- name: EffectLeft :exec
UPDATE workflow_effects SET left_at = coalesce(left_at, @at::timestamptz), left_why = @why
WHERE workflow_id = @workflow_id AND kind = @kind AND name = @name;
