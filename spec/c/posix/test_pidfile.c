#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "posix/pidfile.h"
#include "posix/process.h"
#include "support.h"

#define NOBODY 65534

/* The box as a run directory. */
static int open_dir(void) {
    int dir = open(box_path(""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(dir >= 0);
    return dir;
}

/* What the pidfile says. */
static struct ld_holder inspect(int dir) {
    struct ld_holder holder;
    CHECK_INT(0, ld_pidfile_inspect(&holder, dir, "x"));
    return holder;
}

static void test_life(void) {
    struct ld_pidfile file;
    struct stat facts = {0};
    int dir = open_dir();
    CHECK_INT(LD_HOLDER_NONE, inspect(dir).state);
    umask(077);
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(077, umask(022));
    CHECK(fstatat(dir, "x.pid", &facts, 0) == 0);
    CHECK_INT(0644, facts.st_mode & 07777);
    CHECK_INT(FD_CLOEXEC, fcntl(file.fd, F_GETFD));
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
    CHECK_INT(0, inspect(dir).pid);
    CHECK_INT(0, ld_pidfile_write(&file, 123456));
    CHECK_STR("123456\n", read_file(box_path("x.pid")));
    CHECK_INT(0, ld_pidfile_write(&file, getpid()));
    CHECK_INT(getpid(), inspect(dir).pid);
    CHECK_INT(geteuid(), inspect(dir).owner);
    CHECK_INT(0, ld_pidfile_write(&file, 7)); /* a shorter one leaves nothing of it */
    CHECK_STR("7\n", read_file(box_path("x.pid")));
    ld_pidfile_remove(&file);
    CHECK_INT(-1, file.fd);
    CHECK_INT(LD_HOLDER_NONE, inspect(dir).state);
    ld_pidfile_remove(&file); /* twice does nothing */
    close(dir);
}

static void test_second_loses(void) {
    struct ld_pidfile first;
    struct ld_pidfile second;
    int dir = open_dir();
    CHECK_INT(0, ld_pidfile_acquire(&first, dir, "x"));
    CHECK_INT(0, ld_pidfile_write(&first, 4321));
    CHECK_INT(-EWOULDBLOCK, ld_pidfile_acquire(&second, dir, "x"));
    CHECK_INT(-1, second.fd);
    CHECK_STR("4321\n", read_file(box_path("x.pid"))); /* the loser has not touched it */
    ld_pidfile_remove(&second);
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
    CHECK_INT(0, ld_pidfile_acquire(&second, dir, "y"));
    ld_pidfile_remove(&second);
    ld_pidfile_remove(&first);
    close(dir);
}

static void test_stale(void) {
    struct ld_pidfile file;
    int dir = open_dir();
    write_file(box_path("x.pid"), "123456789\n");
    CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    CHECK_INT(123456789, inspect(dir).pid);
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_STR("", read_file(box_path("x.pid"))); /* the old number means nothing now */
    ld_pidfile_remove(&file);
    close(dir);
}

static void test_one_winner(void) {
    enum { STARTS = 40 };
    pid_t pids[STARTS];
    int winners = 0;
    int dir = open_dir();
    int gate[2];
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    for (int i = 0; i < STARTS; i++) {
        pids[i] = fork_bound();
        if (pids[i] == 0) {
            struct ld_pidfile file;
            char byte;
            close(gate[1]);
            if (read(gate[0], &byte, 1) < 0 || ld_pidfile_acquire(&file, dir, "x") < 0) {
                _exit(1);
            }
            ld_pidfile_write(&file, getpid());
            for (;;) {
                pause();
            }
        }
    }
    close(gate[0]);
    close(gate[1]); /* all at once */
    for (int i = 0; i < STARTS - 1; i++) {
        int status;
        CHECK(waitpid(-1, &status, 0) > 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    }
    for (int i = 0; i < STARTS; i++) {
        if (waitpid(pids[i], NULL, WNOHANG) == 0) {
            winners++;
            CHECK_INT(0, ld_pidfile_confirm(pids[i], dir, "x"));
            end_child(pids[i]);
        }
    }
    CHECK_INT(1, winners);
    CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    close(dir);
}

static void test_shared_over_fork(void) {
    struct ld_pidfile file;
    struct ld_pidfile other;
    int dir = open_dir();
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    pid_t pid = fork_sleeper();
    CHECK_INT(0, ld_pidfile_confirm(pid, dir, "x"));
    CHECK_INT(0, ld_pidfile_confirm(getpid(), dir, "x"));
    close(open(box_path("x.pid"), O_RDONLY | O_CLOEXEC)); /* a POSIX lock would go now */
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
    close(file.fd);
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state); /* the child has it still */
    CHECK_INT(-EWOULDBLOCK, ld_pidfile_acquire(&other, dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(getpid(), dir, "x"));
    end_child(pid);
    CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    CHECK_INT(0, ld_pidfile_acquire(&other, dir, "x"));
    ld_pidfile_remove(&other);
    close(dir);
}

static void test_confirm(void) {
    struct ld_pidfile file;
    int dir = open_dir();
    CHECK_INT(-ESRCH, ld_pidfile_confirm(getpid(), dir, "x")); /* no pidfile */
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(0, ld_pidfile_confirm(getpid(), dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(getppid(), dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(1, dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(0, dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(-1, dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(getpid(), dir, "y"));
    pid_t gone = fork_sleeper();
    end_child(gone);
    CHECK_INT(-ESRCH, ld_pidfile_confirm(gone, dir, "x"));
    ld_pidfile_remove(&file);
    close(dir);
}

/* Another process that has the file open, or locked in another way, is not its holder. */
static void lock_otherwise(int how) {
    int fd = open(box_path("x.pid"), O_RDWR | O_CLOEXEC);
    struct flock read_lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    struct flock write_lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = 0;
    switch (how) {
    case 0:
        break;
    case 1:
        rc = flock(fd, LOCK_EX);
        break;
    case 2:
        rc = fcntl(fd, F_OFD_SETLK, &read_lock);
        break;
    default:
        rc = fcntl(fd, F_SETLK, &write_lock);
        break;
    }
    REQUIRE(fd >= 0 && rc == 0);
}

static void test_strangers(void) {
    int dir = open_dir();
    for (int how = 0; how < 4; how++) {
        int ends[2];
        char byte;
        write_file(box_path("x.pid"), "");
        REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
        pid_t pid = fork_bound();
        if (pid == 0) {
            lock_otherwise(how);
            REQUIRE(write(ends[1], "", 1) == 1);
            for (;;) {
                pause();
            }
        }
        REQUIRE(read(ends[0], &byte, 1) == 1);
        CHECK_INT(-ESRCH, ld_pidfile_confirm(pid, dir, "x"));
        CHECK(how == 3 || inspect(dir).state == LD_HOLDER_DEAD);
        end_child(pid);
        close(ends[0]);
        close(ends[1]);
    }
    close(dir);
}

static void test_open_holder(void) {
    int ends[2];
    char byte;
    int dir = open_dir();
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t pid = fork_bound();
    if (pid == 0) {
        struct ld_pidfile file;
        REQUIRE(ld_pidfile_acquire(&file, dir, "x") == 0);
        REQUIRE(ld_pidfile_write(&file, getpid()) == 0 && write(ends[1], "", 1) == 1);
        for (;;) {
            pause();
        }
    }
    REQUIRE(read(ends[0], &byte, 1) == 1);
    struct ld_holder holder = inspect(dir);
    CHECK_INT(pid, holder.pid);
    int pidfd = ld_pidfile_open_holder(&holder, dir, "x");
    CHECK(pidfd >= 0);
    CHECK_INT(0, ld_process_signal(pidfd, SIGKILL));
    CHECK(ld_process_has_ended(pidfd, WAIT_SECONDS * 1000));
    CHECK_INT(-ESRCH, ld_pidfile_open_holder(&holder, dir, "x")); /* a zombie holds nothing */
    wait_child(pid);
    CHECK_INT(-ESRCH, ld_pidfile_open_holder(&holder, dir, "x"));
    close(pidfd);
    static const pid_t wrong[] = {0, 1, -1, -2, 1 << 30};
    for (size_t i = 0; i < LD_COUNT(wrong); i++) {
        holder.pid = wrong[i];
        CHECK_INT(-ESRCH, ld_pidfile_open_holder(&holder, dir, "x"));
    }
    close(ends[0]);
    close(ends[1]);
    close(dir);
}

static void test_stranger_in_the_file(void) {
    struct ld_pidfile file;
    char number[16];
    int dir = open_dir();
    pid_t stranger = fork_sleeper(); /* before the lock: it does not share it */
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    snprintf(number, sizeof number, "%d\n", (int)stranger);
    write_file(box_path("x.pid"), number);
    struct ld_holder holder = inspect(dir);
    CHECK_INT(LD_HOLDER_ALIVE, holder.state);
    CHECK_INT(stranger, holder.pid);
    CHECK_INT(-ESRCH, ld_pidfile_open_holder(&holder, dir, "x"));
    CHECK_INT(0, waitpid(stranger, NULL, WNOHANG)); /* it lives */
    end_child(stranger);
    ld_pidfile_remove(&file);
    close(dir);
}

static void test_garbage(void) {
    static const struct {
        const char *text;
        pid_t pid;
    } rows[] = {
        {"", 0},      {"\n", 0},           {"abc\n", 0},        {"12abc\n", 0},
        {"-5\n", 0},  {"0\n", 0},          {"1\n", 0},          {" 12\n", 0},
        {"12 \n", 0}, {"1.5\n", 0},        {"0x10\n", 0},       {"99999999999999999999999999\n", 0},
        {"-1\n", 0},  {"4294967295\n", 0}, {"4294967298\n", 0}, {"2147483649\n", 0},
        {"12", 12},   {"12\n", 12},        {"2\n", 2},
    };
    int dir = open_dir();
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        write_file(box_path("x.pid"), rows[i].text);
        CHECK_INT(rows[i].pid, inspect(dir).pid);
        CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    }
    close(dir);
}

static void test_no_regular_file(void) {
    struct ld_pidfile file;
    struct ld_holder holder;
    int dir = open_dir();
    write_file(box_path("target"), "precious\n");
    REQUIRE(symlink(box_path("target"), box_path("x.pid")) == 0);
    CHECK_INT(-ELOOP, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(-1, file.fd);
    CHECK_INT(-ELOOP, ld_pidfile_inspect(&holder, dir, "x"));
    CHECK_INT(-ESRCH, ld_pidfile_confirm(getpid(), dir, "x"));
    CHECK_STR("precious\n", read_file(box_path("target")));
    REQUIRE(unlink(box_path("x.pid")) == 0);
    REQUIRE(symlink(box_path("none"), box_path("x.pid")) == 0);
    CHECK_INT(-ELOOP, ld_pidfile_acquire(&file, dir, "x"));
    CHECK(access(box_path("none"), F_OK) < 0);
    REQUIRE(unlink(box_path("x.pid")) == 0);
    REQUIRE(mkfifo(box_path("x.pid"), 0600) == 0);
    CHECK_INT(-EINVAL, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(-EINVAL, ld_pidfile_inspect(&holder, dir, "x"));
    REQUIRE(unlink(box_path("x.pid")) == 0);
    REQUIRE(mkdir(box_path("x.pid"), 0700) == 0);
    CHECK(ld_pidfile_acquire(&file, dir, "x") < 0);
    CHECK_INT(-EINVAL, ld_pidfile_inspect(&holder, dir, "x"));
    close(dir);
}

static void test_replaced(void) {
    struct ld_pidfile first;
    struct ld_pidfile second;
    int dir = open_dir();
    CHECK_INT(0, ld_pidfile_acquire(&first, dir, "x"));
    REQUIRE(unlink(box_path("x.pid")) == 0); /* as a clean-up would */
    CHECK_INT(0, ld_pidfile_acquire(&second, dir, "x"));
    CHECK_INT(0, ld_pidfile_write(&second, 4321));
    ld_pidfile_remove(&first); /* it is no longer its file */
    CHECK_STR("4321\n", read_file(box_path("x.pid")));
    ld_pidfile_remove(&second);
    CHECK_INT(LD_HOLDER_NONE, inspect(dir).state);
    close(dir);
}

/* Acquire and remove, again and again; whoever holds the lock holds the file at the path. */
static void acquire_and_remove(int dir, int rounds) {
    while (rounds > 0) {
        struct ld_pidfile file;
        struct stat opened;
        struct stat there;
        int rc = ld_pidfile_acquire(&file, dir, "x");
        if (rc == -EWOULDBLOCK) {
            continue;
        }
        REQUIRE(rc == 0);
        REQUIRE(fstat(file.fd, &opened) == 0 && fstatat(dir, "x.pid", &there, 0) == 0);
        CHECK_INT(opened.st_ino, there.st_ino);
        CHECK_INT(0, mkdirat(dir, "held", 0700)); /* nobody else is here */
        CHECK_INT(0, unlinkat(dir, "held", AT_REMOVEDIR));
        ld_pidfile_remove(&file);
        rounds--;
    }
}

static void test_unlink_race(void) {
    pid_t pids[4];
    int dir = open_dir();
    for (size_t i = 0; i < LD_COUNT(pids); i++) {
        pids[i] = fork_bound();
        if (pids[i] == 0) {
            acquire_and_remove(dir, 500);
            fflush(stdout);
            _exit(check_failures() > 0);
        }
    }
    for (size_t i = 0; i < LD_COUNT(pids); i++) {
        CHECK_INT(0, wait_child(pids[i]));
    }
    CHECK_INT(LD_HOLDER_NONE, inspect(dir).state);
    close(dir);
}

/* As another user. */
static void look_as_nobody(void) {
    int dir = open_dir();
    struct ld_holder holder;
    struct ld_pidfile file;
    pid_t owner = getppid();
    REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK_INT(0, ld_pidfile_inspect(&holder, dir, "x"));
    CHECK_INT(LD_HOLDER_ALIVE, holder.state);
    CHECK_INT(0, holder.owner);
    CHECK_INT(owner, holder.pid);
    CHECK_INT(-EACCES, ld_pidfile_confirm(owner, dir, "x"));
    CHECK_INT(-EACCES, ld_pidfile_open_holder(&holder, dir, "x"));
    CHECK_INT(-EACCES, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(-EACCES, ld_pidfile_acquire(&file, dir, "y"));
    CHECK_INT(-EACCES, ld_pidfile_inspect(&holder, dir, "secret"));
}

static void test_other_users(void) {
    struct ld_pidfile file;
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    int dir = open_dir();
    write_file(box_path("secret.pid"), "12\n");
    REQUIRE(chmod(box_path("secret.pid"), 0600) == 0 && fchmod(dir, 0755) == 0);
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(0, ld_pidfile_write(&file, getpid()));
    check_in_child(look_as_nobody);
    ld_pidfile_remove(&file);
    close(dir);
}

/* Have a pidfile as a host has it: the witness, while the process KEEPER has the lock. */
static pid_t open_witness(struct ld_pidfile *file, int dir) {
    CHECK_INT(0, ld_pidfile_acquire(file, dir, "x"));
    CHECK_INT(0, ld_pidfile_write(file, getpid()));
    pid_t keeper = fork_sleeper();
    CHECK_INT(0, ld_pidfile_witness(file));
    return keeper;
}

static void test_witness(void) {
    struct ld_pidfile file;
    struct ld_pidfile other;
    int dir = open_dir();
    pid_t keeper = open_witness(&file, dir);
    CHECK_INT(O_RDONLY, fcntl(file.fd, F_GETFL) & O_ACCMODE);
    CHECK_INT(FD_CLOEXEC, fcntl(file.fd, F_GETFD));
    CHECK_INT(-EBADF, ld_pidfile_write(&file, 1234)); /* it can only read */
    CHECK(ld_pidfile_is_current(&file));
    CHECK_INT(0, ld_pidfile_confirm(keeper, dir, "x"));
    CHECK_INT(0, ld_pidfile_confirm(getpid(), dir, "x"));
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
    CHECK_INT(-EWOULDBLOCK, ld_pidfile_acquire(&other, dir, "x"));
    close(file.fd);
    CHECK_INT(-ESRCH, ld_pidfile_confirm(getpid(), dir, "x"));
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state); /* the keeper's lock is still there */
    end_child(keeper);
    CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    close(dir);
}

static void test_waiting(void) {
    struct ld_pidfile file;
    int dir = open_dir();
    CHECK(!inspect(dir).waiting);
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(0, ld_pidfile_write(&file, getpid()));
    for (int i = 0; i < 3; i++) {
        CHECK(!inspect(dir).waiting);
        CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
        ld_pidfile_show_waiting(&file, true);
        CHECK(inspect(dir).waiting);
        CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
        CHECK_INT(0, ld_pidfile_confirm(getpid(), dir, "x"));
        ld_pidfile_show_waiting(&file, false);
    }
    struct ld_pidfile witness = {.dir = dir, .fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
    int fd = ld_pidfile_open_witness(&file);
    CHECK_INT(0, ld_pidfile_adopt(&witness, fd));
    CHECK_INT(fd, witness.fd);
    CHECK_INT(-EBADF, ld_pidfile_write(&witness, 1));
    ld_pidfile_show_waiting(&witness, true); /* a host cannot say so */
    ld_pidfile_show_waiting(&file, true);    /* and while it lives, its keeper cannot */
    CHECK(!inspect(dir).waiting);
    close(witness.fd);
    ld_pidfile_remove(&file);
    close(dir);
}

static void test_keeper_dies(void) {
    struct ld_pidfile file;
    struct ld_pidfile other;
    char number[16];
    int dir = open_dir();
    end_child(open_witness(&file, dir));
    CHECK_INT(LD_HOLDER_ALIVE, inspect(dir).state);
    CHECK_INT(0, ld_pidfile_confirm(getpid(), dir, "x"));
    snprintf(number, sizeof number, "%d\n", (int)getpid());
    for (int i = 0; i < 2; i++) { /* and what the loser has locked is free again */
        CHECK_INT(-EWOULDBLOCK, ld_pidfile_acquire(&other, dir, "x"));
        CHECK_INT(-1, other.fd);
        CHECK_STR(number, read_file(box_path("x.pid")));
    }
    pid_t stranger = fork_sleeper();
    snprintf(number, sizeof number, "%d\n", (int)getppid());
    write_file(box_path("x.pid"), number); /* the witness of who is not named counts for nothing */
    CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    end_child(stranger);
    close(file.fd);
    snprintf(number, sizeof number, "%d\n", (int)getpid());
    write_file(box_path("x.pid"), number);
    CHECK_INT(LD_HOLDER_DEAD, inspect(dir).state);
    CHECK_INT(0, ld_pidfile_acquire(&other, dir, "x"));
    ld_pidfile_remove(&other);
    close(dir);
}

static void test_no_witness(void) {
    struct ld_pidfile file;
    int dir = open_dir();
    CHECK_INT(0, ld_pidfile_acquire(&file, dir, "x"));
    REQUIRE(rename(box_path("x.pid"), box_path("old")) == 0);
    CHECK_INT(-ENOENT, ld_pidfile_witness(&file));
    CHECK_INT(O_RDWR, fcntl(file.fd, F_GETFL) & O_ACCMODE); /* the lock is kept */
    REQUIRE(symlink("old", box_path("x.pid")) == 0);
    CHECK_INT(-ELOOP, ld_pidfile_witness(&file));
    REQUIRE(unlink(box_path("x.pid")) == 0);
    write_file(box_path("x.pid"), "");
    CHECK_INT(-ESTALE, ld_pidfile_witness(&file)); /* that is another one */
    CHECK_INT(O_RDWR, fcntl(file.fd, F_GETFL) & O_ACCMODE);
    REQUIRE(unlink(box_path("x.pid")) == 0);
    REQUIRE(mkfifo(box_path("x.pid"), 0600) == 0); /* which does not keep us */
    CHECK_INT(-ESTALE, ld_pidfile_witness(&file));
    close(file.fd);
    close(dir);
}

/* Acquire where files cannot be locked. */
static void acquire_without_locks(void) {
    struct ld_pidfile file;
    int dir = open_dir();
    write_file(box_path("old.pid"), "12\n");
    deny_syscall(SYS_fcntl, ENOLCK);
    CHECK_INT(-ENOLCK, ld_pidfile_acquire(&file, dir, "x"));
    CHECK_INT(-1, file.fd);
    CHECK_INT(-ENOLCK, ld_pidfile_acquire(&file, dir, "old"));
    CHECK(faccessat(dir, "x.pid", F_OK, 0) < 0 && errno == ENOENT);
    CHECK_STR("12\n", read_file(box_path("old.pid")));
}

/* Acquire where files cannot be truncated. */
static void acquire_without_truncating(void) {
    struct ld_pidfile file;
    int dir = open_dir();
    write_file(box_path("old.pid"), "12\n");
    deny_syscall(SYS_ftruncate, EIO);
    CHECK_INT(-EIO, ld_pidfile_acquire(&file, dir, "y"));
    CHECK_INT(-1, file.fd);
    CHECK_INT(-EIO, ld_pidfile_acquire(&file, dir, "old"));
    CHECK(faccessat(dir, "y.pid", F_OK, 0) < 0 && errno == ENOENT);
    CHECK_STR("12\n", read_file(box_path("old.pid")));
}

static void test_acquire_fails(void) {
    box_path(""); /* the box is ours, not the child's */
    check_in_child(acquire_without_locks);
    check_in_child(acquire_without_truncating);
}

static const struct check_case cases[] = {
    {"a pidfile is made, written and removed", test_life},
    {"whoever comes second loses, and touches nothing", test_second_loses},
    {"a stale pidfile is taken over", test_stale},
    {"of forty at once one wins", test_one_winner},
    {"the lock is shared over fork", test_shared_over_fork},
    {"the kernel confirms the holder, and no other process", test_confirm},
    {"other processes that have the file open, or lock it otherwise, are not holders",
     test_strangers},
    {"a holder is opened as a pidfd", test_open_holder},
    {"another process whose number is in the file is not opened", test_stranger_in_the_file},
    {"garbage is not a pid", test_garbage},
    {"only a regular file is accepted", test_no_regular_file},
    {"a file that was replaced is left alone", test_replaced},
    {"acquiring and removing at once never gives two holders", test_unlink_race},
    {"other users see, and cannot", test_other_users},
    {"a witness can only read, and counts as the lock", test_witness},
    {"only a keeper without a host can show that it waits", test_waiting},
    {"the witness of a host whose keeper has died keeps the name", test_keeper_dies},
    {"a witness is of the file that is held", test_no_witness},
    {"a pidfile that was made in vain is removed, and an old one left", test_acquire_fails},
};

CHECK_MAIN(cases)
