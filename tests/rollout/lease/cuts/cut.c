/* cut LOG N TORN COMMAND...: run a command and make its N-th change of the file system the last one.
 *
 * Every process of the command is traced. A change is a successful rename, unlink, link, mkdir, rmdir, fsync, truncation,
 * creation of a file, or a write to a regular file. After the N-th one all processes are killed (exit code 77). With TORN 1 an
 * N-th change that is a write stores only half of its bytes. With N 0 the command runs to its end. Each change is one line of
 * LOG: number, name of the system call, path.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define CUT 77
#define MAX_THREADS 512

enum kind { NONE, PATH, DESCRIPTOR, WRITE, OPEN };

struct thread {
	pid_t pid;
	enum kind kind; /* of the system call that it is in */
	const char *name;
	int torn;
	char path[PATH_MAX];
};

static struct thread threads[MAX_THREADS];
static FILE *log_file;
static long count, last;
static int tear;

static struct thread *thread_of(pid_t pid)
{
	struct thread *empty = NULL;
	for (int i = 0; i < MAX_THREADS; i++) {
		if (threads[i].pid == pid)
			return &threads[i];
		if (!threads[i].pid && !empty)
			empty = &threads[i];
	}
	if (!empty) {
		fprintf(stderr, "cut: too many threads\n");
		exit(1);
	}
	memset(empty, 0, sizeof(*empty));
	empty->pid = pid;
	return empty;
}

static void read_text(pid_t pid, unsigned long address, char *text, size_t size)
{
	struct iovec local = { text, size - 1 }, remote = { (void *)address, size - 1 };
	ssize_t got = process_vm_readv(pid, &local, 1, &remote, 1, 0);
	if (got < 0) { /* the string may end just before a page that is not mapped */
		local.iov_len = remote.iov_len = 4096 - (address & 4095);
		got = process_vm_readv(pid, &local, 1, &remote, 1, 0);
	}
	text[got < 0 ? 0 : got] = 0;
}

static int read_descriptor(pid_t pid, int fd, char *path, size_t size)
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, fd);
	ssize_t got = readlink(link, path, size - 1);
	path[got < 0 ? 0 : got] = 0;
	return path[0] == '/' && strncmp(path, "/dev/", 5) != 0;
}

/* Classify a system call at its entry. */
static void enter(struct thread *thread, struct ptrace_syscall_info *info)
{
	unsigned long long *args = info->entry.args;
	int fd = -1, path = -1;
	thread->kind = NONE;
	switch (info->entry.nr) {
#define NAMED(call) case SYS_##call: thread->name = #call;
#ifdef SYS_rename
	NAMED(rename) path = 1; break;
	NAMED(unlink) path = 0; break;
	NAMED(mkdir) path = 0; break;
	NAMED(rmdir) path = 0; break;
	NAMED(link) path = 1; break;
	NAMED(symlink) path = 1; break;
	NAMED(open) path = (args[1] & (O_CREAT | O_TRUNC)) ? 0 : -1; break;
#endif
#ifdef SYS_renameat
	NAMED(renameat) path = 3; break;
#endif
	NAMED(renameat2) path = 3; break;
	NAMED(unlinkat) path = 1; break;
	NAMED(mkdirat) path = 1; break;
	NAMED(linkat) path = 3; break;
	NAMED(symlinkat) path = 2; break;
	NAMED(openat) path = (args[2] & (O_CREAT | O_TRUNC)) ? 1 : -1; break;
	NAMED(truncate) path = 0; break;
	NAMED(ftruncate) fd = 0; break;
	NAMED(fsync) fd = 0; break;
	NAMED(fdatasync) fd = 0; break;
	NAMED(syncfs) fd = 0; break;
	NAMED(write) fd = 0; break;
	NAMED(writev) fd = 0; break;
	NAMED(pwrite64) fd = 0; break;
	default: return;
	}
	if (path >= 0) {
		thread->kind = PATH;
		read_text(thread->pid, args[path], thread->path, sizeof(thread->path));
		if (strncmp(thread->path, "/dev/", 5) == 0)
			thread->kind = NONE;
	} else if (fd >= 0 && read_descriptor(thread->pid, args[fd], thread->path, sizeof(thread->path))) {
		thread->kind = info->entry.nr == SYS_write ? WRITE : DESCRIPTOR;
	}
	thread->torn = 0;
#ifdef __x86_64__
	if (tear && thread->kind == WRITE && count + 1 == last && args[2] > 1) {
		struct user_regs_struct registers;
		ptrace(PTRACE_GETREGS, thread->pid, 0, &registers);
		registers.rdx = args[2] / 2;
		ptrace(PTRACE_SETREGS, thread->pid, 0, &registers);
		thread->torn = 1;
	}
#endif
}

static void kill_all(void)
{
	for (int i = 0; i < MAX_THREADS; i++)
		if (threads[i].pid)
			kill(threads[i].pid, SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
}

/* Count a change when its system call has returned. */
static void leave(struct thread *thread, struct ptrace_syscall_info *info)
{
	if (thread->kind == NONE || info->exit.is_error)
		return;
	count++;
	fprintf(log_file, "%ld %s%s %s\n", count, thread->name, thread->torn ? "(torn)" : "", thread->path);
	fflush(log_file);
	thread->kind = NONE;
	if (count == last) {
		kill_all();
		exit(CUT);
	}
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	log_file = fopen(argv[1], "we");
	last = atol(argv[2]);
	tear = atoi(argv[3]);
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execvp(argv[4], argv + 4);
		_exit(127);
	}
	int status, code = 1;
	waitpid(child, &status, 0);
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
		       PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	if (!log_file || ptrace(PTRACE_SETOPTIONS, child, 0, options) < 0) {
		perror("cut");
		return 1;
	}
	thread_of(child);
	ptrace(PTRACE_SYSCALL, child, 0, 0);
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid < 0)
			return code;
		struct thread *thread = thread_of(pid);
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (pid == child)
				code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			thread->pid = 0;
			continue;
		}
		int signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80)) {
			struct ptrace_syscall_info info;
			ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
				enter(thread, &info);
			else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
				leave(thread, &info);
			signal = 0;
		} else if (signal == SIGTRAP || signal == SIGSTOP) {
			signal = 0; /* an event of the options above, or the first stop of a new thread */
		}
		ptrace(PTRACE_SYSCALL, pid, 0, signal);
	}
}
