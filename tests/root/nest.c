/* Makes cgroups within one another, then beside one another, until no more can be made. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	char name[201];
	int deep = 0, wide = 0;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	if (chdir("/sys/fs/cgroup") != 0)
		return 1;
	while (deep < 5000 && mkdir(name, 0755) == 0 && chdir(name) == 0)
		deep++;
	if (chdir("/sys/fs/cgroup") != 0)
		return 1;
	for (; wide < 20000; wide++) {
		snprintf(name, sizeof(name), "w%d", wide);
		if (mkdir(name, 0755) != 0)
			break;
	}
	printf("%d %d\n", deep, wide);
	return 0;
}
