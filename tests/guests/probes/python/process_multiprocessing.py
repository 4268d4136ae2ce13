import multiprocessing
import sys


def square(number):
    return number * number


if __name__ == "__main__":
    ways = [None]
    if sys.version_info[0] > 2:
        ways = ["fork", "spawn"]
    for way in ways:
        context = multiprocessing.get_context(way) if way else multiprocessing
        pool = context.Pool(2)
        print(pool.map(square, range(5)))
        pool.close()
        pool.join()
        queue = context.Queue()
        process = context.Process(target=queue.put, args=("from a process",))
        process.start()
        print(queue.get(timeout=30))
        process.join()
        print(process.exitcode)
    print(multiprocessing.current_process().name)
