<?php
// The double fork as PHP's manual shows it.
if (pcntl_fork() > 0) exit(0);
posix_setsid();
if (pcntl_fork() > 0) exit(0);
umask(022);
chdir("/");
fclose(STDIN); fclose(STDOUT); fclose(STDERR);
$stdin = fopen("/dev/null", "r"); $stdout = fopen("/dev/null", "w"); $stderr = fopen("/dev/null", "w");
file_put_contents("@OUT@", "@VERSION@");
while (true) sleep(3600);
