DROP FUNCTION _rhtmx_sync_chosen(jsonb, jsonb, jsonb, text);
DROP FUNCTION _rhtmx_sync_counted(jsonb, jsonb, jsonb, text, text);
DROP FUNCTION _rhtmx_sync_said(numeric);
DROP FUNCTION _rhtmx_sync_amount(jsonb);
