/* Preloaded into every program: semodule stops for good before it renames a file to .../policy/policy.N, while /etc/stall exists.
 *
 * libsemanage has swapped the store by then (semanage_commit_sandbox), and the next boot would still load the old policy.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

int rename(const char *from, const char *to)
{
	static int (*next)(const char *, const char *);
	if (!next)
		next = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
	if (strstr(to, "/policy/policy.") && !strcmp(program_invocation_short_name, "semodule") && !access("/etc/stall", F_OK))
		for (;;)
			pause();
	return next(from, to);
}
