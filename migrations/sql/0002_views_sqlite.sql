CREATE VIEW exchange_list AS SELECT e.id AS exchange_id,
  substr(nullif(lower(hex(e.id)), ''), 1, 8) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 9, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 13, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 17, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 21, 12) AS id,
  e.journal AS journal,
  e.ordinal AS ordinal,
  CASE e.origin
  WHEN 0 THEN 'live'
  WHEN 1 THEN 'resend'
  WHEN 2 THEN 'playback'
  WHEN 3 THEN 'demo'
  WHEN 4 THEN 'import'
  ELSE CAST(e.origin AS text) END AS origin,
  e.started_us AS started_us,
  n_node.value AS node,
  n_upstream.value AS upstream,
  n_dialect.value AS dialect,
  n_method.value AS method,
  coalesce(e.target_long, n_target.value) AS target,
  n_client.value AS client,
  n_client_kind.value AS client_kind,
  n_credential.value AS credential,
  n_session.value AS session,
  e.tag_set AS tag_set,
  CASE e.record
  WHEN 0 THEN 'all'
  WHEN 1 THEN 'meta'
  ELSE CAST(e.record AS text) END AS record,
  n_http_version.value AS http_version,
  e.status AS status,
  n_reason.value AS reason,
  CASE e.wire_end
  WHEN 0 THEN 'upstream_end'
  WHEN 1 THEN 'client_left'
  WHEN 2 THEN 'upstream_error'
  WHEN 3 THEN 'journal_error'
  WHEN 4 THEN 'worker_died'
  WHEN 5 THEN 'refused'
  ELSE CAST(e.wire_end AS text) END AS wire_end,
  e.error AS error,
  CASE e.outcome
  WHEN 0 THEN 'completed'
  WHEN 1 THEN 'client_left'
  WHEN 2 THEN 'upstream_failed'
  WHEN 3 THEN 'refused'
  WHEN 4 THEN 'interrupted'
  ELSE CAST(e.outcome AS text) END AS outcome,
  e.request_bytes AS request_bytes,
  e.response_bytes AS response_bytes,
  e.request_chunks AS request_chunks,
  e.response_chunks AS response_chunks,
  e.unrecorded_bytes AS unrecorded_bytes,
  e.lost_records AS lost_records,
  e.masked AS masked,
  e.request_sent_us AS request_sent_us,
  e.head_us AS head_us,
  e.first_byte_us AS first_byte_us,
  e.last_byte_us AS last_byte_us,
  e.end_us AS end_us,
  e.overhead_us AS overhead_us,
  nullif(lower(hex(e.request_hash)), '') AS request_hash,
  nullif(lower(hex(e.response_hash)), '') AS response_hash,
  nullif(lower(hex(e.request_out_hash)), '') AS request_out_hash,
  nullif(lower(hex(e.response_out_hash)), '') AS response_out_hash,
  n_operation.value AS operation,
  n_virtual_key.value AS virtual_key,
  substr(nullif(lower(hex(e.replay_of)), ''), 1, 8) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 9, 4) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 13, 4) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 17, 4) || '-'
  || substr(nullif(lower(hex(e.replay_of)), ''), 21, 12) AS replay_of,
  e.retry_count AS retry_count,
  n_model_asked.value AS model_asked,
  n_model_served.value AS model_served,
  e.response_id AS response_id,
  e.request_id AS request_id,
  e.billed_as AS billed_as,
  e.streaming AS streaming,
  n_finish_reason.value AS finish_reason,
  n_finish_reason_norm.value AS finish_reason_norm,
  n_service_tier.value AS service_tier,
  e.terminated AS terminated,
  e.first_event_us AS first_event_us,
  e.first_reasoning_us AS first_reasoning_us,
  e.first_visible_us AS first_visible_us,
  e.terminal_event_us AS terminal_event_us,
  e.input_tokens AS input_tokens,
  e.output_tokens AS output_tokens,
  e.total_tokens AS total_tokens,
  e.cache_read_tokens AS cache_read_tokens,
  e.cache_write_tokens AS cache_write_tokens,
  e.reasoning_tokens AS reasoning_tokens,
  e.estimated_input_tokens AS estimated_input_tokens,
  e.estimated_output_tokens AS estimated_output_tokens,
  n_usage_state.value AS usage_state,
  e.cost_pico AS cost_pico,
  e.cost_reported_pico AS cost_reported_pico,
  n_cost_status.value AS cost_status,
  e.price AS price,
  e.interpretation_error AS interpretation_error,
  e.interpreter AS interpreter,
  e.failed AS failed,
  e.counted AS counted,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.started_us / 1000000.0, 'unixepoch') AS started,
  coalesce(e.cost_reported_pico, e.cost_pico) / 1e12 AS cost_usd
FROM exchanges e
LEFT JOIN names n_node ON n_node.id = e.node
LEFT JOIN names n_upstream ON n_upstream.id = e.upstream
LEFT JOIN names n_dialect ON n_dialect.id = e.dialect
LEFT JOIN names n_method ON n_method.id = e.method
LEFT JOIN names n_target ON n_target.id = e.target
LEFT JOIN names n_client ON n_client.id = e.client
LEFT JOIN names n_client_kind ON n_client_kind.id = e.client_kind
LEFT JOIN names n_credential ON n_credential.id = e.credential
LEFT JOIN names n_session ON n_session.id = e.session
LEFT JOIN names n_http_version ON n_http_version.id = e.http_version
LEFT JOIN names n_reason ON n_reason.id = e.reason
LEFT JOIN names n_operation ON n_operation.id = e.operation
LEFT JOIN names n_virtual_key ON n_virtual_key.id = e.virtual_key
LEFT JOIN names n_model_asked ON n_model_asked.id = e.model_asked
LEFT JOIN names n_model_served ON n_model_served.id = e.model_served
LEFT JOIN names n_finish_reason ON n_finish_reason.id = e.finish_reason
LEFT JOIN names n_finish_reason_norm ON n_finish_reason_norm.id = e.finish_reason_norm
LEFT JOIN names n_service_tier ON n_service_tier.id = e.service_tier
LEFT JOIN names n_usage_state ON n_usage_state.id = e.usage_state
LEFT JOIN names n_cost_status ON n_cost_status.id = e.cost_status;
CREATE VIEW spend_daily AS SELECT date('1970-01-01', k.day || ' days') AS day, m.value AS model, c.value AS credential,
  a.name AS credential_name, v.value AS virtual_key,
  CAST(sum(k.exchanges) AS bigint) AS exchanges,
  CAST(sum(k.errors) AS bigint) AS errors,
  CAST(sum(k.unknown) AS bigint) AS unknown,
  CAST(sum(k.unpriced) AS bigint) AS unpriced,
  CAST(sum(k.input_tokens) AS bigint) AS input_tokens,
  CAST(sum(k.output_tokens) AS bigint) AS output_tokens,
  CAST(sum(k.cache_read_tokens) AS bigint) AS cache_read_tokens,
  CAST(sum(k.cache_write_tokens) AS bigint) AS cache_write_tokens,
  CAST(sum(k.reasoning_tokens) AS bigint) AS reasoning_tokens,
  CAST(sum(k.cost_pico) AS bigint) AS cost_pico,
  sum(k.cost_pico) / 1e12 AS cost_usd
FROM spend_keys k LEFT JOIN names m ON m.id = k.model LEFT JOIN names c ON c.id = k.credential
LEFT JOIN credential_names a ON a.credential = k.credential LEFT JOIN names v ON v.id = k.virtual_key
GROUP BY k.day, m.value, c.value, a.name, v.value;
CREATE VIEW exchange_text AS SELECT t.exchange_id, substr(nullif(lower(hex(e.id)), ''), 1, 8) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 9, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 13, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 17, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 21, 12) AS id, strftime('%Y-%m-%dT%H:%M:%fZ', e.started_us / 1000000.0, 'unixepoch') AS started,
  n_upstream.value AS upstream, n_model_asked.value AS model_asked, n_session.value AS session,
  CASE WHEN t.seq < 0 THEN 'answer' ELSE 'prompt' END AS part, r.value AS role, t.seq, t.data AS text
FROM texts t JOIN exchanges e ON e.id = t.exchange_id LEFT JOIN names r ON r.id = t.role
LEFT JOIN names n_upstream ON n_upstream.id = e.upstream
LEFT JOIN names n_model_asked ON n_model_asked.id = e.model_asked
LEFT JOIN names n_session ON n_session.id = e.session;
CREATE VIEW slow_streams AS SELECT e.id AS exchange_id, substr(nullif(lower(hex(e.id)), ''), 1, 8) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 9, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 13, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 17, 4) || '-'
  || substr(nullif(lower(hex(e.id)), ''), 21, 12) AS id, strftime('%Y-%m-%dT%H:%M:%fZ', e.started_us / 1000000.0, 'unixepoch') AS started,
  n_upstream.value AS upstream, coalesce(n_model_served.value, n_model_asked.value) AS model,
  e.first_visible_us / 1000 AS first_visible_ms, e.end_us / 1000 AS end_ms, e.output_tokens,
  CASE WHEN e.end_us > e.first_visible_us
    THEN e.output_tokens * 1e6 / (e.end_us - e.first_visible_us) END AS tokens_per_second
FROM exchanges e
LEFT JOIN names n_upstream ON n_upstream.id = e.upstream
LEFT JOIN names n_model_asked ON n_model_asked.id = e.model_asked
LEFT JOIN names n_model_served ON n_model_served.id = e.model_served
WHERE e.first_visible_us > 2000000;
