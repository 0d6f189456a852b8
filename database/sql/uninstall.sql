DROP EVENT IF EXISTS powerpole.expire
$$
{{drop_grantors}}
DROP USER IF EXISTS {{definer}}
$$
DROP DATABASE IF EXISTS powerpole
$$
