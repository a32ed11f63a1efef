SELECT id, start_time, status FROM appointments WHERE start_time >= '2025-06-01' AND start_time < '2025-06-02' ORDER BY start_time;
SELECT id, client_id, start_time FROM appointments WHERE status = 'pending';
SELECT count(*) FROM appointments WHERE barber_id = 400;
SELECT id, start_time, status FROM appointments WHERE client_id = 77 ORDER BY start_time DESC;
SELECT id, client_id, start_time FROM appointments WHERE barber_id = 400 AND start_time >= '2025-06-01' AND start_time < '2025-06-08' ORDER BY start_time;
SELECT id, barber_id, start_time FROM appointments WHERE status = 'confirmed' AND start_time >= '2025-07-01' ORDER BY start_time LIMIT 50;
SELECT id, status, created_at FROM appointments WHERE created_at >= '2025-10-01' ORDER BY created_at DESC LIMIT 100;
SELECT id, user_id, amount FROM payments WHERE status = 'failed';
SELECT date_trunc('day', created_at), sum(amount) FROM payments WHERE created_at >= '2025-09-25' GROUP BY 1;
SELECT id, amount, created_at FROM payments WHERE user_id = 123 AND status = 'paid';
SELECT id, amount FROM payments WHERE appointment_id = 4321 AND status = 'paid';
SELECT id, email FROM users WHERE role = 'barber';
SELECT count(*) FROM users WHERE is_active = false;
DELETE FROM password_reset_tokens WHERE expires_at < '2025-01-03';
SELECT id, user_id FROM password_reset_tokens WHERE used = false AND user_id = 55
