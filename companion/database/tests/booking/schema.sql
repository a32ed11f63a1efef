SELECT setseed(0.5);
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, role text NOT NULL, is_active boolean NOT NULL);
INSERT INTO users SELECT i, 'user' || i || '@example.test',
  CASE WHEN i % 200 = 0 THEN 'barber' WHEN i % 1999 = 0 THEN 'admin' ELSE 'client' END, i % 20 <> 0
FROM generate_series(1, 8000) i;
CREATE TABLE appointments (id int PRIMARY KEY, barber_id int NOT NULL REFERENCES users, client_id int NOT NULL REFERENCES users,
  status text NOT NULL, start_time timestamptz NOT NULL, created_at timestamptz NOT NULL, note text NOT NULL);
INSERT INTO appointments SELECT i, 200 * (1 + (random() * 39)::int), 1 + (random() * 7999)::int,
  CASE WHEN r < 0.9 THEN 'completed' WHEN r < 0.96 THEN 'cancelled' WHEN r < 0.99 THEN 'confirmed' ELSE 'pending' END,
  '2025-01-01'::timestamptz + i * interval '10 minutes' + (random() * 14) * interval '1 day',
  '2025-01-01'::timestamptz + i * interval '10 minutes', md5(i::text)
FROM (SELECT i, random() r FROM generate_series(1, 40000) i) x;
CREATE TABLE payments (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, appointment_id int NOT NULL REFERENCES appointments,
  status text NOT NULL, amount int NOT NULL, created_at timestamptz NOT NULL);
INSERT INTO payments SELECT i, 1 + (random() * 7999)::int, 1 + (random() * 39999)::int,
  CASE WHEN r < 0.95 THEN 'paid' WHEN r < 0.98 THEN 'failed' ELSE 'pending' END, (random() * 10000)::int,
  '2025-01-01'::timestamptz + i * interval '11 minutes'
FROM (SELECT i, random() r FROM generate_series(1, 36000) i) x;
CREATE TABLE password_reset_tokens (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, token text NOT NULL,
  expires_at timestamptz NOT NULL, used boolean NOT NULL);
INSERT INTO password_reset_tokens SELECT i, 1 + (random() * 7999)::int, md5(i::text),
  '2025-01-01'::timestamptz + i * interval '30 minutes', i % 25 <> 0 FROM generate_series(1, 15000) i;
ANALYZE;
