DROP EVENT IF EXISTS powerpole.expire
$$
{{drop_grantors}}
DROP USER IF EXISTS {{definer}}
$$
DROP USER IF EXISTS {{kill_role}}
$$
DROP DATABASE IF EXISTS powerpole
$$
