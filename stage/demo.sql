-- What the demo's cluster holds: a schema that people ask for, and one that nobody may see through PowerPole.
-- Safe to run again.
CREATE DATABASE IF NOT EXISTS orders CHARACTER SET utf8mb4;
CREATE TABLE IF NOT EXISTS orders.customers (
  id INT UNSIGNED NOT NULL PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  city VARCHAR(80) NOT NULL
);
CREATE TABLE IF NOT EXISTS orders.orders (
  id INT UNSIGNED NOT NULL PRIMARY KEY,
  customer INT UNSIGNED NOT NULL,
  placed DATETIME NOT NULL,
  state ENUM('open', 'paid', 'shipped', 'cancelled') NOT NULL,
  cents INT UNSIGNED NOT NULL,
  KEY customer (customer)
);
INSERT IGNORE INTO orders.customers (id, name, city) VALUES
  (1, 'Amara Okafor', 'Lagos'),
  (2, 'Jürgen Weiß', 'Köln'),
  (3, '山田 花子', '大阪'),
  (4, 'Lucía Fernández', 'Sevilla'),
  (5, 'Noah O''Brien', 'Cork');
INSERT IGNORE INTO orders.orders (id, customer, placed, state, cents) VALUES
  (1001, 1, '2026-01-03 09:12:00', 'shipped', 12950),
  (1002, 2, '2026-01-03 11:40:00', 'paid', 4999),
  (1003, 3, '2026-01-04 07:05:00', 'open', 78000),
  (1004, 1, '2026-01-04 18:22:00', 'cancelled', 1500),
  (1005, 4, '2026-01-05 13:37:00', 'open', 25050),
  (1006, 5, '2026-01-05 20:01:00', 'paid', 990);
CREATE DATABASE IF NOT EXISTS secretdb CHARACTER SET utf8mb4;
CREATE TABLE IF NOT EXISTS secretdb.salaries (id INT UNSIGNED NOT NULL PRIMARY KEY, person VARCHAR(80) NOT NULL, cents INT UNSIGNED NOT NULL);
INSERT IGNORE INTO secretdb.salaries (id, person, cents) VALUES (1, 'nobody you know', 999900);
