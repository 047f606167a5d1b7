/* Mounts a file system of its own at argv[1], which never answers. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR);
	if (fd < 0 || argc < 2)
		return 1;
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
	if (mount("deaf", argv[1], "fuse", 0, options) != 0)
		return 2;
	close(open("/tmp/mounted", O_CREAT | O_WRONLY, 0644));
	for (;;)
		pause();
}
