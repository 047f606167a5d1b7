/*
 * The init of the test template: small, quick to boot, and obedient or not as a test wants it.
 * It is asked as systemd is (SIGRTMIN+4 powers off, SIGRTMIN+5 reboots, READY=1 when it is up), and
 * nagaya takes it for systemd because of the words below.
 *
 * A test tells it how to behave in /etc/behave, one word: `stubborn` (ignores being asked), `exit`
 * (ends at once, with code 7), `late` (does not listen for a while), `readonly` (leaves as the halt
 * scripts of sysvinit do).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

const char what_nagaya_looks_for[] = "libsystemd-shared";

static int behaves(const char *word)
{
	char text[64] = "";
	int fd = open("/etc/behave", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && strncmp(text, word, strlen(word)) == 0;
}

/* Opened each time: the console of an adopted guest is another one than that of its birth. */
static void say(const char *text)
{
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0) {
		/* Nobody is there to read it. */
	}
	close(fd);
}

static void notify_ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!path || strlen(path) >= sizeof(address.sun_path))
		return;
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof(address));
	close(fd);
}

/* Answers what is typed at the console. */
static void sit_at_console(void)
{
	for (;;) {
		FILE *in = fopen("/dev/console", "re");
		char line[256], answer[300];
		while (in && fgets(line, sizeof(line), in)) {
			snprintf(answer, sizeof(answer), "heard: %s", line);
			say(answer);
		}
		if (in)
			fclose(in);
		usleep(20000);
	}
}

static pid_t start_console(const sigset_t *none)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	sigprocmask(SIG_SETMASK, none, NULL);
	sit_at_console();
	_exit(0);
}

int main(void)
{
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	/* Until then the kernel throws away what process 1 has no handler for. */
	if (behaves("late"))
		usleep(700000);
	sigprocmask(SIG_BLOCK, &all, NULL);
	if (behaves("exit"))
		return 7;
	say("tiny: up\n");
	pid_t console = start_console(&none);
	notify_ready();
	for (;;) {
		siginfo_t info;
		int number = sigwaitinfo(&all, &info);
		int asked = number == SIGRTMIN + 4 || number == SIGRTMIN + 5;
		if (number == SIGCHLD) {
			pid_t pid;
			while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
				if (pid == console)
					console = start_console(&none);
		} else if (asked && behaves("stubborn")) {
			say("tiny: no\n");
		} else if (asked) {
			if (behaves("readonly") && mount("none", "/", NULL, MS_REMOUNT | MS_RDONLY, NULL))
				say("tiny: cannot remount its root\n");
			say(number == SIGRTMIN + 4 ? "Powering off.\n" : "Rebooting.\n");
			reboot(number == SIGRTMIN + 4 ? RB_POWER_OFF : RB_AUTOBOOT);
		}
	}
}
