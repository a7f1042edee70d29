// A server that serves one client at a time. The test looks for the lines of its calls.
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void serve(int listener) {
	char request[512];
	int c = accept(listener, 0, 0);
	if (read(c, request, sizeof request) > 0)
		(void)!write(c, "hi\n", 3);
	close(c);
}

int main(int argc, char **argv) {
	struct sockaddr_in addr = {.sin_family = AF_INET};
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (argc < 2)
		return 2;
	addr.sin_port = htons(atoi(strrchr(argv[1], ':') + 1));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&addr, sizeof addr) || listen(listener, 10))
		return 1;
	for (;;)
		serve(listener);
}
