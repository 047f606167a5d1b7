/* Traces process argv[1] and does nothing about it: it cannot be collected once it has ended. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	if (argc < 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0) != 0)
		return 1;
	puts("traces");
	fflush(stdout);
	for (;;)
		pause();
}
